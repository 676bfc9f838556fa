"""Release: canary, swap, verification, and only then the pointer; and rollback.

A failure before the pointer moves leaves the old release in force, and the step can be run again.
Releases have a lock of their own: a rollback never waits for a night, and a night never
replaces a model that was released meanwhile.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Literal

from sqlalchemy import Connection

from flywheel.errors import FlywheelError, UserError
from flywheel.evaluate import Rows, answered_right, latency_fault
from flywheel.handover import advance, begin_handover, describe_handover
from flywheel.ledger.datasets import read_manifest
from flywheel.ledger.failures import failures_in, move_failures, num_moved
from flywheel.ledger.judged import report_of_night
from flywheel.ledger.locks import hold
from flywheel.ledger.predictions import first_answers
from flywheel.ledger.releases import (
    RELEASE_LOCK,
    add_release,
    current_release,
    get_handover,
    release_history,
    released_digest,
)
from flywheel.ledger.rollouts import Rollout, last_rollout, mark_rollout, running_rollout
from flywheel.ledger.samples import load_samples
from flywheel.ledger.windows import recent_samples
from flywheel.loop.context import Loop, NightRun
from flywheel.loop.gather import model_server
from flywheel.loop.measuring import load, right_by_label, rules_of
from flywheel.loop.results import Released
from flywheel.loop.retrain import newest_version
from flywheel.loop.rollout import describe_rollout, start_rollout, stop_rollout, wants_rollout
from flywheel.mlflow import show_in_mlflow
from flywheel.records import TRAIN_ONLY, FailureState, Release
from flywheel.serve import ModelServer

_LOGGER = logging.getLogger(__name__)
_CANARY_SAMPLES = 32
_PATIENCE_SECONDS = 120.0
_REASON = 500
"""width of the column of reasons"""


@contextmanager
def hold_release(loop: Loop) -> Iterator[None]:
    """Lock the release for the short time that a change of it takes.

    Raises:
        BusyError: another process has held the lock for two minutes.
    """
    with hold(loop.ledger, RELEASE_LOCK, loop.now, patience_seconds=_PATIENCE_SECONDS):
        yield


def release(night: NightRun, digest: str, reason: str) -> Released:
    """Release a promoted checkpoint: canary, swap, check the served digest, move the pointer.

    It replaces only the champion that it was compared with, and is not released a second time
    after a rollback: the person who rolled back had a reason.

    Raises:
        UnavailableError: the model server does not answer.
        FlywheelError: the server reports another digest after the swap.
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
        return _kept(loop, f"the canary failed, the old release keeps serving: {fault}")
    if history and wants_rollout(loop) and history[-1].checkpoint_digest != digest:
        rollout = start_rollout(loop, history[-1], digest, reason, threshold)
        return _kept(loop, describe_rollout(rollout, loop.now()))
    pointer = _swap(loop, digest, reason, threshold)
    return Released(
        release_number=pointer.number,
        serving_digest=_serving(loop, pointer),
        num_fixed=mark_fixed(loop, night.number, digest),
        note=said_of(loop, pointer),
    )


def roll_back(loop: Loop, reason: str) -> Release:
    """Release the previous model again; this works while a night runs, too.

    Raises:
        UserError: there is no previous release.
        BusyError: another process is changing the release.
    """
    with hold_release(loop):
        with loop.ledger.read() as connection:
            current = current_release(connection)
        if current is None or current.previous_digest is None:
            raise UserError(
                f"{loop.project.name} has no earlier release to go back to. "
                "See flywheel status for what serves"
            )
        made = _swap(loop, current.previous_digest, reason, _earlier_threshold(loop, current))
    if fault := show_in_mlflow(loop.project, loop.ledger, loop.blobs):
        _LOGGER.warning("%s", fault)
    return made


def end_rollout_now(loop: Loop, action: Literal["promote", "abort"], reason: str) -> Rollout:
    """Release the candidate of the rollout under way now, or stop it: the champion answers all.

    Raises:
        UserError: there is none.
        BusyError: another process is changing the release.
    """
    with hold_release(loop):
        with loop.ledger.read() as connection:
            running = running_rollout(connection)
        if running is None:
            raise UserError(
                f"{loop.project.name} has no rollout under way. See flywheel status for what serves"
            )
        if action == "promote":
            _swap(
                loop,
                running.digest,
                f"{running.reason}; promoted by hand: {reason}",
                running.threshold,
            )
        else:
            with loop.ledger.begin() as connection:
                stop_rollout(connection, f"aborted by hand: {reason}", loop.now())
    with loop.ledger.read() as connection:
        found = last_rollout(connection)
    assert found is not None  # noqa: S101  it was read above
    return found


def mark_promoted(night: NightRun) -> None:
    """Mark the failures that a rollout's candidate fixes, once it has been released by the server."""
    with night.loop.ledger.read() as connection:
        rollout = last_rollout(connection)
        current = current_release(connection)
    if rollout is None or rollout.marked or rollout.state != "promoted":
        return
    if current is not None and current.checkpoint_digest == rollout.digest:
        mark_fixed(night.loop, night.number, rollout.digest)
    with night.loop.ledger.begin() as connection:
        mark_rollout(connection, rollout)


def release_checked(
    loop: Loop,
    digest: str,
    reason: str,
    threshold: float | None,
    *,
    also: Callable[[Connection], None] = lambda _: None,
) -> Release:
    """Release a checkpoint that a person chose, after the same canary.

    Args:
        loop: the project; the caller holds its release lock.
        digest: of the checkpoint.
        reason: stored with the release.
        threshold: confidence below which the server defers; None never defers.
        also: writes more in the transaction of the release.

    Raises:
        UserError: the canary failed.
    """
    fault = _canary(loop, model_server(loop), digest)
    if fault:
        raise UserError(
            f"the canary of {digest[:12]} failed, and the old release keeps serving: "
            f"{fault}. The canary cannot be skipped: fix the model server or the candidate"
        )
    return _swap(loop, digest, reason, threshold, also)


def _serving(loop: Loop, pointer: Release) -> str | None:
    """What serves after a release; None where the user's own server has not reported it yet."""
    if not loop.project.is_external:
        return pointer.checkpoint_digest
    with loop.ledger.read() as connection:
        handover = get_handover(connection, pointer.number)
    is_verified = handover is not None and handover.verified_at is not None
    return pointer.checkpoint_digest if is_verified else None


def said_of(loop: Loop, pointer: Release) -> str:
    """What became of a release that was just made."""
    if not loop.project.is_external:
        return f"release {pointer.number} serves"
    with loop.ledger.read() as connection:
        handover = get_handover(connection, pointer.number)
    assert handover is not None  # noqa: S101  it was begun with the release
    return describe_handover(pointer, handover, loop.now())


def keep(night: NightRun, note: str) -> Released:
    """The result of a night that releases nothing."""
    return _kept(night.loop, note)


def _changed(history: list[Release], champion: str | None, digest: str, reason: str) -> str:
    """Why a decision no longer holds for what serves now; "" when it does."""
    serving = history[-1] if history else None
    now = serving.checkpoint_digest if serving else None
    # A killed run of this step may have moved the pointer already.
    has_released = any(release.reason == reason for release in history)
    if now == digest if has_released else now == champion:
        return ""
    what = "nothing" if serving is None else f"release {serving.number} ({serving.reason})"
    return f"the release changed since the decision, {what} keeps serving"


def _swap(
    loop: Loop,
    digest: str,
    reason: str,
    threshold: float | None,
    also: Callable[[Connection], None] = lambda _: None,
) -> Release:
    """Activate a checkpoint on the server, check the digest it reports, and move the pointer last."""
    # A server of the user's own takes a release by itself, after the pointer names it.
    serving = digest if loop.project.is_external else model_server(loop).activate(digest, threshold)
    if serving != digest:
        raise FlywheelError(
            f"{loop.project.server_url} serves {serving} although {digest} was activated. "
            "Restart it with flywheel down and flywheel up, then run this again"
        )
    # The pointer moves last: a crash before this commit leaves the old release in force.
    with loop.ledger.begin() as connection:
        also(connection)
        stop_rollout(connection, f"released: {reason}", loop.now(), digest)
        made = add_release(connection, digest, reason[:_REASON], loop.now(), threshold)
        if loop.project.is_external:
            begin_handover(connection, loop.project, made)
    if loop.project.is_external:
        advance(loop.project, loop.ledger, loop.blobs, loop.now())
    return made


def _earlier_threshold(loop: Loop, current: Release) -> float | None:
    """The threshold that the model before the current one was released with."""
    with loop.ledger.read() as connection:
        history = release_history(connection)
    earlier = [
        release for release in history if release.checkpoint_digest == current.previous_digest
    ]
    return earlier[-1].threshold if earlier else None


def _kept(loop: Loop, note: str) -> Released:
    with loop.ledger.read() as connection:
        digest = released_digest(connection)
    return Released(release_number=None, serving_digest=digest, num_fixed=0, note=note)


def _canary(loop: Loop, server: ModelServer, digest: str) -> str:
    """Why the canary fails; "" when it passes.

    The server answers recent samples with the candidate, unseen by callers. It fails when an answer
    disagrees (`Task.agree`) with that of the evaluated weights, or when the latencies break a
    requirement of the project. Where the user's own server serves, the artifact is loaded here, and
    must answer its stored inputs as it did when it was made.
    """
    model = load(loop, digest)
    if loop.project.is_external:
        return ""
    with loop.ledger.read() as connection:
        sample_ids = recent_samples(connection, _CANARY_SAMPLES)
        if not sample_ids:  # before the first traffic: labeled samples
            version = newest_version(loop)
            rows = read_manifest(loop.blobs, version.id)
            sample_ids = [row.sample_id for row in rows[:_CANARY_SAMPLES]]
        samples = load_samples(connection, loop.blobs, sample_ids)
    expected = [answer.value for answer in model.answer_samples(samples)]
    answered = server.canary(digest, sample_ids)
    differing = sum(
        not loop.task.agree(served.answer, value)
        for served, value in zip(answered, expected, strict=True)
    )
    if differing:
        return f"{differing} of {len(expected)} answers differ from the evaluated model's"
    return latency_fault([served.latency_ms for served in answered], rules_of(loop))


def mark_fixed(loop: Loop, number: int, digest: str) -> int:
    """Move failures that the released model answers correctly to FIXED; how many did in that night.

    A suspect whose first answer was right by its label never failed, and stays where it is.
    """
    rows_now = read_manifest(loop.blobs, newest_version(loop).id)
    answers = {row.sample_id: row.answer for row in rows_now if row.origin not in TRAIN_ONLY}
    with loop.ledger.read() as connection:
        learned = failures_in(connection, FailureState.TRAINED_ON)
        ids = [failure.sample_id for failure in learned if failure.sample_id in answers]
        said = first_answers(connection, ids)
    was_right = right_by_label(loop, {name: (said[name], answers[name]) for name in said})
    ids = [name for name in ids if not was_right.get(name, True)]
    with loop.ledger.read() as connection:
        samples = load_samples(connection, loop.blobs, ids)
    model = load(loop, digest, loop.project.train.device)
    rows = Rows(samples=samples, answers=[answers[name] for name in ids])
    right = answered_right(loop.task, model, rows, rules_of(loop)) or []
    fixed = [name for name, is_right in zip(ids, right, strict=True) if is_right]
    with loop.ledger.begin() as connection:
        move_failures(connection, fixed, FailureState.FIXED, number, loop.now())
        return num_moved(connection, FailureState.FIXED, number)
