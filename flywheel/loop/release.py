"""The last step of a night: canary, swap, proof, and only then the pointer.

Whatever fails before the pointer has moved leaves the old release serving; run again, the
step starts over and comes to the same end. The release has a lock of its own: going back waits
for no night, and a night releases nothing over what was released meanwhile.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from sqlalchemy import Connection

from flywheel.errors import FlywheelError, UserError
from flywheel.evaluate import Rows, answered_right, latency_fault
from flywheel.ledger.datasets import read_manifest
from flywheel.ledger.failures import failures_in, move_failures, num_moved
from flywheel.ledger.locks import hold
from flywheel.ledger.releases import add_release, current_release, release_history
from flywheel.ledger.reports import report_of_night
from flywheel.ledger.samples import load_samples
from flywheel.ledger.windows import recent_samples
from flywheel.loop.context import Loop, NightRun
from flywheel.loop.gather import model_server
from flywheel.loop.judge import rules_of
from flywheel.loop.results import Released
from flywheel.loop.retrain import newest_version
from flywheel.model import Model, pick_device
from flywheel.records import SENSOR, FailureState, Release
from flywheel.serve import ModelServer

_CANARY_SAMPLES = 32
_LOCK = "the release"
_PATIENCE_SECONDS = 120.0
_REASON = 500
"""the width of its column"""


@contextmanager
def hold_release(loop: Loop) -> Iterator[None]:
    """Hold what serves, for the short time that a change of it takes.

    Raises:
        BusyError: another process has been changing it for two minutes.
    """
    with hold(loop.ledger, _LOCK, loop.now, patience_seconds=_PATIENCE_SECONDS):
        yield


def release(night: NightRun, digest: str, reason: str) -> Released:
    """Release a promoted checkpoint: canary, swap, ask the server to prove it, move the pointer.

    It is not released over another champion than its report speaks of, nor a second time: who
    went back from it meanwhile knew why.
    """
    loop = night.loop
    with loop.ledger.read() as connection:
        report = report_of_night(connection, night.number)
        history = release_history(connection)
    champion = report.champion_digest if report is not None else None
    changed = _changed(history, champion, digest, reason)
    if changed:
        return _kept(loop, changed)
    threshold = report.abstention.threshold if report and report.abstention else None
    fault = _canary(loop, model_server(loop), digest)
    if fault:
        return _kept(loop, f"the canary failed, the old release serves on: {fault}")
    pointer = _swap(loop, digest, reason, threshold)
    return Released(
        release_number=pointer.number,
        serving_digest=digest,
        num_fixed=mark_fixed(loop, night.number, digest),
        note=f"release {pointer.number} serves",
    )


def roll_back(loop: Loop, reason: str) -> Release:
    """Release the model again that served before the current one, also while a night runs.

    Raises:
        UserError: there was none.
        BusyError: another process is changing what serves.
    """
    with hold_release(loop):
        with loop.ledger.read() as connection:
            current = current_release(connection)
        if current is None or current.previous_digest is None:
            raise UserError(
                f"{loop.project.name} has no earlier release to go back to; "
                "flywheel status says what serves"
            )
        return _swap(loop, current.previous_digest, reason, _earlier_threshold(loop, current))


def release_checked(
    loop: Loop,
    digest: str,
    reason: str,
    threshold: float | None,
    *,
    also: Callable[[Connection], None] = lambda _: None,
) -> Release:
    """Release a checkpoint that a person chose; the canary is asked all the same.

    Args:
        loop: the project, whose release is held.
        digest: of the checkpoint.
        reason: kept with the release.
        threshold: confidence below which the server defers.
        also: what becomes true in the same transaction as the release.

    Raises:
        UserError: the canary failed.
    """
    fault = _canary(loop, model_server(loop), digest)
    if fault:
        raise UserError(
            f"the canary of {digest[:12]} failed, the old release serves on: {fault}; "
            "nobody can skip it: mend the model server or the candidate"
        )
    return _swap(loop, digest, reason, threshold, also)


def keep(night: NightRun, note: str) -> Released:
    """End a night whose candidate is not promoted."""
    return _kept(night.loop, note)


def _changed(history: list[Release], champion: str | None, digest: str, reason: str) -> str:
    """Why a decision no longer holds for what serves now; "" when it does."""
    serving = history[-1] if history else None
    now = serving.checkpoint_digest if serving else None
    has_released = any(one.reason == reason for one in history)
    if now == digest if has_released else now == champion:
        return ""
    what = "nothing" if serving is None else f"release {serving.number} ({serving.reason})"
    return f"the release changed since the decision, {what} serves on"


def _swap(
    loop: Loop,
    digest: str,
    reason: str,
    threshold: float | None,
    also: Callable[[Connection], None] = lambda _: None,
) -> Release:
    """Let the server serve a checkpoint, have it proved, and move the pointer last."""
    serving = model_server(loop).activate(digest, threshold)
    if serving != digest:
        raise FlywheelError(
            f"{loop.project.server_url} serves {serving} after it was told to serve {digest}; "
            "restart it with flywheel down and flywheel up, then run this again"
        )
    with loop.ledger.begin() as connection:
        also(connection)
        return add_release(connection, digest, reason[:_REASON], loop.now(), threshold)


def _earlier_threshold(loop: Loop, current: Release) -> float | None:
    """The threshold that the model before the current one was released with."""
    with loop.ledger.read() as connection:
        history = release_history(connection)
    earlier = [one for one in history if one.checkpoint_digest == current.previous_digest]
    return earlier[-1].threshold if earlier else None


def _kept(loop: Loop, note: str) -> Released:
    with loop.ledger.read() as connection:
        current = current_release(connection)
    digest = current.checkpoint_digest if current else None
    return Released(release_number=None, serving_digest=digest, num_fixed=0, note=note)


def _canary(loop: Loop, server: ModelServer, digest: str) -> str:
    """Let the server answer recent samples with the candidate, unseen by callers; "" is good.

    It fails when the serving process answers otherwise than the evaluated weights do, for all
    that the task can tell, or when
    its 95th percentile of latency is over the limit of the project.
    """
    with loop.ledger.read() as connection:
        sample_ids = recent_samples(connection, _CANARY_SAMPLES)
        if not sample_ids:  # before the first traffic: whatever is labeled
            version = newest_version(loop)
            rows = read_manifest(loop.blobs, version.id)
            sample_ids = [row.sample_id for row in rows[:_CANARY_SAMPLES]]
        samples = load_samples(connection, loop.blobs, sample_ids)
    model = Model(loop.task, loop.blobs.get(digest), pick_device("cpu"))
    expected = [answer.value for answer in model.answer_samples(samples)]
    answered = server.canary(digest, sample_ids)
    differing = sum(
        not loop.task.agree(one.answer, other)
        for one, other in zip(answered, expected, strict=True)
    )
    if differing:
        return f"{differing} of {len(expected)} answers differ from the evaluated model's"
    return latency_fault([one.latency_ms for one in answered], rules_of(loop))


def mark_fixed(loop: Loop, number: int, digest: str) -> int:
    """Move the failures that the released model answers right on to FIXED; how many of a night."""
    rows_now = read_manifest(loop.blobs, newest_version(loop).id)
    answers = {row.sample_id: row.answer for row in rows_now if row.origin != SENSOR}
    with loop.ledger.read() as connection:
        learned = failures_in(connection, FailureState.TRAINED_ON)
        ids = [failure.sample_id for failure in learned if failure.sample_id in answers]
        samples = load_samples(connection, loop.blobs, ids)
    model = Model(loop.task, loop.blobs.get(digest), pick_device(loop.project.train.device))
    rows = Rows(samples=samples, answers=[answers[name] for name in ids])
    right = answered_right(loop.task, model, rows, rules_of(loop))
    fixed = [name for name, is_right in zip(ids, right, strict=True) if is_right]
    with loop.ledger.begin() as connection:
        move_failures(connection, fixed, FailureState.FIXED, number, loop.now())
        return num_moved(connection, FailureState.FIXED, number)
