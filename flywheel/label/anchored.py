"""Where people take over too much of what the model says: there nobody is shown it any longer.

Whether an answer was shown had been drawn by chance, so shown against blind is what showing does.
It refuses to know why a person goes along.
"""

from __future__ import annotations

from sqlalchemy import Connection

from flywheel.blobs import Blobs
from flywheel.crowd import Compared, measure_anchoring
from flywheel.errors import FlywheelError
from flywheel.label.plan import EVERYWHERE
from flywheel.ledger.looks import Look, recent_looks
from flywheel.ledger.samples import load_samples
from flywheel.task import Task

_WINDOW = 2_000
"""annotations; of their samples the slices are asked, which takes the payloads"""


def read_compared(connection: Connection, blobs: Blobs, task: Task) -> list[Compared]:
    """The newest annotations of chosen samples, held against what the model had said.

    Blind ones that were blinded on purpose, and not by chance, are among them: a slice that was
    switched off stays comparable only through what was shown before, and comes back once that is
    out of the window.
    """
    looks = recent_looks(connection, _WINDOW)
    slices = _slices(connection, blobs, task, looks)
    return [
        Compared(
            sample=look.sample_id,
            person=look.annotator,
            is_blind=not look.shown,
            agrees=task.agree(look.answer, look.model_answer),
            slices=slices.get(look.sample_id, ()),
        )
        for look in looks
    ]


def blinded_slices(
    connection: Connection, blobs: Blobs, task: Task, max_anchoring: float
) -> frozenset[str]:
    """The slices in which people agree with the model surely too much more when they see it.

    EVERYWHERE when they do so over all.
    """
    measured = measure_anchoring(read_compared(connection, blobs, task))
    found = {name for name, one in measured.slices.items() if one.is_biased(max_anchoring)}
    if measured.overall is not None and measured.overall.is_biased(max_anchoring):
        found.add(EVERYWHERE)
    return frozenset(found)


def _slices(
    connection: Connection, blobs: Blobs, task: Task, looks: list[Look]
) -> dict[str, tuple[str, ...]]:
    """Sample id -> the slices that it belongs to; a sample that cannot be loaded has none."""
    found: dict[str, tuple[str, ...]] = {}
    for sample_id in {look.sample_id for look in looks} if task.slices else ():
        try:
            (sample,) = load_samples(connection, blobs, [sample_id])
        except FlywheelError:
            continue
        found[sample_id] = tuple(name for name, holds in task.slices.items() if holds(sample))
    return found
