"""Where people take over too much of what the model says: there nobody is shown it any longer.

Whether an answer was shown had been drawn by chance, so shown against blind is what showing does.
It refuses to know why a person goes along.
"""

from __future__ import annotations

from sqlalchemy import Connection

from flywheel.annotators import Compared, measure_anchoring
from flywheel.annotators.anchoring import Anchorings
from flywheel.blobs import Blobs
from flywheel.label.plan import EVERYWHERE
from flywheel.label.slices import slices_of
from flywheel.ledger.annotations import recent_looks
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
    samples = list(dict.fromkeys(look.sample_id for look in looks))
    slices = slices_of(connection, blobs, task, samples)
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
    """Where people are not shown the model's answer, as of now; see `where_biased`."""
    return where_biased(measure_anchoring(read_compared(connection, blobs, task)), max_anchoring)


def where_biased(measured: Anchorings, max_anchoring: float) -> frozenset[str]:
    """The slices in which people agree with the model surely too much more when they see it.

    EVERYWHERE when they do so over all.
    """
    found = {name for name, one in measured.slices.items() if one.is_biased(max_anchoring)}
    if measured.overall is not None and measured.overall.is_biased(max_anchoring):
        found.add(EVERYWHERE)
    return frozenset(found)
