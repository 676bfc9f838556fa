"""The retrain step: the candidate of a night; and whether a night may begin before its time.

A candidate is trained only when there are rows that no candidate has been trained on, and no
challenge is open, since a new candidate would take the labels that the challenge waits for. A
trigger of an early night is only a hint: the ledger decides. At most one night begins early
between two scheduled times, so triggers that feed each other can at most double the nights.
"""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import Connection

from flywheel.cron import time_before
from flywheel.gpu import hold_devices
from flywheel.ledger.datasets import get_version, latest_version, read_manifest
from flywheel.ledger.decisions import last_approval, last_challenge, last_decision_on
from flywheel.ledger.failures import move_failures
from flywheel.ledger.nights import last_night, last_time_of
from flywheel.ledger.progress import count_labels_since
from flywheel.ledger.releases import (
    add_checkpoint,
    current_release,
    latest_checkpoint,
    release_history,
)
from flywheel.ledger.samples import load_samples
from flywheel.loop.context import Loop, NightRun
from flywheel.loop.results import Retrained
from flywheel.model import cpu_threads
from flywheel.records import (
    SENSOR,
    Approval,
    Checkpoint,
    Consent,
    DatasetRow,
    DatasetVersion,
    Decision,
    FailureState,
    Release,
    Split,
    Verdict,
)
from flywheel.train import Trained, Trainers, TrainingData, train, train_distributed


def retrain(night: NightRun) -> Retrained:
    """The candidate of the night: trained now, or one that still waits for its verdict."""
    loop = night.loop
    version = newest_version(loop)
    already = _trained_tonight(night, version)
    if already is not None:
        return _retrained(already, version)
    waiting, note = _waiting_candidate(loop, version)
    if note:
        return Retrained(
            candidate_digest=waiting, device=None, train_seconds=0.0, losses=(), note=note
        )
    rows = [row for row in read_manifest(loop.blobs, version.id) if row.split is Split.TRAIN]
    trained = _train(night, _training_data(loop, version, rows))
    # Weights before their row: a checkpoint in the ledger can then always be loaded.
    loop.blobs.put(trained.weights)
    with loop.ledger.begin() as connection:
        add_checkpoint(connection, trained.checkpoint)
        # Failures labeled by a sensor alone still wait for annotators: sensors never test.
        learned = [row.sample_id for row in rows if row.origin != SENSOR]
        move_failures(connection, learned, FailureState.TRAINED_ON, night.number, loop.now())
    return _retrained(trained.checkpoint, version)


def _train(night: NightRun, data: TrainingData) -> Trained:
    """Train with the devices locked, in this process or in several."""
    loop, settings = night.loop, night.loop.project.train
    seed = loop.project.project.seed + night.number
    with hold_devices(settings.device, loop.project.name, number=settings.processes) as held:
        if held.descriptors:
            settings = settings.model_copy(update={"device": held.names[0]})
        if settings.processes == 1:
            with cpu_threads(settings.cpu_threads):
                return train(
                    loop.task,
                    settings,
                    data,
                    seed=seed,
                    now=loop.now(),
                    progress=night.progress,
                )
        trainers = Trainers(
            task=loop.project.project.task,
            directory=loop.project.directory,
            devices=held.names,
            descriptors=held.descriptors,
        )
        return train_distributed(
            trainers, settings, data, seed=seed, now=loop.now(), progress=night.progress
        )


def newest_version(loop: Loop) -> DatasetVersion:
    """The newest dataset version; the ingest step has made sure that there is one."""
    with loop.ledger.read() as connection:
        version = latest_version(connection)
    assert version is not None  # noqa: S101  # the steps run in order
    return version


def _trained_tonight(night: NightRun, version: DatasetVersion) -> Checkpoint | None:
    """What a run of this night trained before it was killed; None when there is none."""
    with night.loop.ledger.read() as connection:
        newest = latest_checkpoint(connection)
    if newest is None or newest.created_at < night.started_at or newest.dataset_id != version.id:
        return None
    return newest


def _retrained(checkpoint: Checkpoint, version: DatasetVersion) -> Retrained:
    return Retrained(
        candidate_digest=checkpoint.digest,
        device=checkpoint.device,
        train_seconds=checkpoint.train_seconds,
        losses=checkpoint.losses,
        note=f"trained on {version.num_train} rows",
    )


def _waiting_candidate(loop: Loop, version: DatasetVersion) -> tuple[str | None, str]:
    """A candidate that may still be promoted, and a note; "" means that a new one is trained."""
    challenged = challenger(loop)
    if challenged is not None:
        waits = f"candidate {challenged[:12]} has an open challenge; training goes on once it is decided"
        return challenged, waits
    with loop.ledger.read() as connection:
        newest = latest_checkpoint(connection)
        if newest is None:
            return None, ""
        trained_on = get_version(connection, newest.dataset_id)
        releases = release_history(connection)
        decision = last_decision_on(connection, newest.digest)
        asked = last_approval(connection)
    if trained_on.train_set_digest != version.train_set_digest:
        return None, ""
    over = _why_over(newest.digest, releases, decision) or _why_asked(
        newest.digest, decision, asked
    )
    if over:
        return None, f"no new training labels since {over}"
    return newest.digest, f"no new training labels; candidate {newest.digest[:12]} is judged again"


def _why_over(digest: str, releases: list[Release], decision: Decision | None) -> str:
    """Why a candidate is not judged again; "" when it may be."""
    if releases and releases[-1].checkpoint_digest == digest:
        return "the released model was trained"
    if any(release.checkpoint_digest == digest for release in releases):
        return f"{digest[:12]} was rolled back"
    if decision is not None and decision.verdict is Verdict.REJECT:
        return f"candidate {digest[:12]} was rejected"
    if decision is not None and decision.verdict is Verdict.HOLD and decision.closes_challenge:
        return f"candidate {digest[:12]} was given up"
    return ""


def _why_asked(digest: str, decision: Decision | None, asked: Approval | None) -> str:
    """Why an approval keeps a promoted candidate from being judged again; "" when none does."""
    if decision is None or asked is None or asked.decision_id != decision.id:
        return ""
    if asked.answer is None:
        return f"candidate {digest[:12]} was promoted, which waits for approval"
    if asked.answer is Consent.DECLINE:
        return f"candidate {digest[:12]} was declined by {asked.answered_by}"
    return ""


def challenger(loop: Loop) -> str | None:
    """The candidate whose challenge of the serving champion is open; None when none is."""
    with loop.ledger.read() as connection:
        last, release = last_challenge(connection), current_release(connection)
    if last is None or release is None:
        return None
    challenge, is_closed = last
    if is_closed or challenge.champion_digest != release.checkpoint_digest:
        return None
    return challenge.challenger_digest


def _training_data(loop: Loop, version: DatasetVersion, rows: list[DatasetRow]) -> TrainingData:
    with loop.ledger.read() as connection:
        release = current_release(connection)
        samples = load_samples(connection, loop.blobs, [row.sample_id for row in rows])
    return TrainingData(
        samples=samples,
        answers=[row.answer for row in rows],
        origins=[row.origin for row in rows],
        weights=[row.weight for row in rows],
        dataset_id=version.id,
        champion=loop.blobs.get(release.checkpoint_digest) if release else None,
    )


def num_new_labels(loop: Loop) -> int:
    """Number of training samples with a label from annotators that no candidate was trained on."""
    with loop.ledger.read() as connection:
        return count_labels_since(connection, _trained_until(connection))


def why_not_early(loop: Loop) -> str:
    """Why no night may begin before its time; "" when one may."""
    number, enough = num_new_labels(loop), loop.project.train.enough_labels
    if number < enough:
        return f"{number} new labels, {enough} are enough ([train] enough_labels)"
    challenged = challenger(loop)
    if challenged is not None:
        return f"{number} new labels wait until the challenge of {challenged[:12]} is decided"
    return _why_not_again(loop)


def _trained_until(connection: Connection) -> datetime | None:
    """When the labels of the last candidate were read; None before the first candidate.

    When the newest version has the same training rows, labels that came since then are not used
    for training; they do not count as new, so the time is that of the last ingest.
    """
    checkpoint = latest_checkpoint(connection)
    if checkpoint is None:
        return None
    trained, newest = get_version(connection, checkpoint.dataset_id), latest_version(connection)
    if newest is not None and newest.train_set_digest == trained.train_set_digest:
        return last_time_of(connection, "ingest") or trained.created_at
    return trained.created_at


def _why_not_again(loop: Loop) -> str:
    schedule, now = loop.project.schedule, loop.now()
    with loop.ledger.read() as connection:
        last = last_night(connection)
    if last is None or last.finished_at is None or not last.is_early:
        return ""
    since = time_before(schedule.cron, schedule.timezone, now)
    if since is not None and not since < last.started_at <= now:
        return ""
    return (
        f"night {last.number} already began early at {last.started_at:%Y-%m-%d %H:%M} UTC. The next "
        f"one is at {schedule.cron} {schedule.timezone}; run flywheel night for one now"
    )
