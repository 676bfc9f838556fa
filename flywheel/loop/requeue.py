"""The queue after a new release: open samples are hard as far as the new model makes them so.

Each release looks at the queue once; in between, samples only grow older.
"""

from __future__ import annotations

from dataclasses import replace

from flywheel.annotate import QueueResult, order_queue, targeted
from flywheel.annotate.exchange import Bridge
from flywheel.collect import low_confidence_signals
from flywheel.gpu import hold_devices
from flywheel.ledger.failures import failures_of, set_signals
from flywheel.ledger.outbox import open_places
from flywheel.ledger.releases import current_release
from flywheel.ledger.reviews import logged_answers
from flywheel.ledger.samples import load_samples
from flywheel.ledger.windows import move_watermark, watermark
from flywheel.loop.context import Loop, NightRun
from flywheel.model import Model, cpu_threads, pick_device
from flywheel.records import Answer, Failure, Json

_MARK = "queue ordered for release"


def requeue(night: NightRun, studio: Bridge | None) -> QueueResult:
    """Order what is open anew, and withdraw what the model that serves now leaves no doubt of."""
    loop = night.loop
    with loop.ledger.read() as connection:
        release = current_release(connection)
        seen = watermark(connection, _MARK)
        ids = targeted(open_places(connection))
    hardness: dict[str, float] = {}
    if release is not None and release.number > seen:
        left = _failures_left(loop, release.checkpoint_digest, ids)
        with loop.ledger.begin() as connection:
            set_signals(connection, left)
        hardness = {failure.sample_id: failure.strength for failure in left}
    ageing = loop.project.labeling.ageing_nights
    ordered = order_queue(loop.ledger, studio, hardness, ageing, loop.now())
    if release is not None and (studio is not None or not ids):
        with loop.ledger.begin() as connection:
            move_watermark(connection, _MARK, release.number)
    return ordered


def _failures_left(loop: Loop, digest: str, ids: list[str]) -> list[Failure]:
    """What there is to suspect in open samples, asked of the model that serves now."""
    if not ids:
        return []
    with loop.ledger.read() as connection:
        before = logged_answers(connection, ids)
        failures = failures_of(connection, ids)
        samples = load_samples(connection, loop.blobs, ids)
    project = loop.project
    with (
        hold_devices(project.train.device, project.name) as held,
        cpu_threads(project.train.cpu_threads),
    ):
        model = Model(loop.task, loop.blobs.get(digest), pick_device(held.names[0]))
        answers = model.answer_samples(samples)
    return [
        _left(loop, failures[key], before[key], answer)
        for key, answer in zip(ids, answers, strict=True)
    ]


def _left(loop: Loop, failure: Failure, before: Json, answer: Answer) -> Failure:
    """The failure with the signals that still hold.

    What the world said was said of the old answer: it counts as long as the new one agrees.
    """
    holds = loop.task.agree(before, answer.value)
    told = [one for one in failure.signals if holds and one.name != "low_confidence"]
    unsure = low_confidence_signals(answer.confidence, loop.project.collect.low_confidence)
    return replace(failure, signals=(*unsure, *told))
