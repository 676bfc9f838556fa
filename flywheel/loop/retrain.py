"""The retrain step: the candidate of a night; and whether a night may begin before its time.

A candidate is trained whenever there are rows that no candidate has been trained on, also while a
challenge is open: the newest candidate waits, and may take the challenge over. A trigger of an early
night is only a hint: the ledger decides. At most one night begins early
between two scheduled times, so triggers that feed each other can at most double the nights.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from datetime import datetime
from itertools import zip_longest
from pathlib import Path
from typing import NamedTuple

from sqlalchemy import Connection

from flywheel.artifact import differences, num_asked, parse_card, read_card, warm_start
from flywheel.checks import Source, ask_elsewhere
from flywheel.cron import time_before
from flywheel.errors import TaskError
from flywheel.gpu import hold_devices
from flywheel.ledger.datasets import add_trained, get_version, latest_version, read_manifest
from flywheel.ledger.failures import move_failures
from flywheel.ledger.judged import last_approval, last_decision_on, open_challenges
from flywheel.ledger.nights import last_night, last_time_of
from flywheel.ledger.progress import count_labels_since
from flywheel.ledger.releases import (
    add_checkpoint,
    current_release,
    latest_checkpoint,
    release_history,
    released_digest,
)
from flywheel.ledger.samples import StoredSamples, groups_of, load_samples
from flywheel.loop.context import Loop, NightRun, Progress
from flywheel.loop.results import Retrained
from flywheel.model import cpu_threads
from flywheel.project import Project
from flywheel.records import (
    TRAIN_ONLY,
    Approval,
    Checkpoint,
    Consent,
    DatasetRow,
    DatasetVersion,
    Decision,
    FailureState,
    Release,
    Sample,
    Split,
    Verdict,
    canonical,
)
from flywheel.sources import Code, may_follow_hashes
from flywheel.train import SUBMITTED, Trained, Trainers, TrainingData, train, train_distributed

_NOTE_SECONDS = 1.0
_SAME = "it is the model that serves, byte for byte: see that the trainer uses new rows"


def retrain(night: NightRun) -> Retrained:
    """The candidate of the night: trained now, or one that still waits for its verdict."""
    loop = night.loop
    version = newest_version(loop)
    already = _trained_tonight(night, version)
    if already is not None:
        return _retrained(already)
    waiting, note = _waiting_candidate(loop, version)
    if note:
        return Retrained(
            candidate_digest=waiting, device=None, train_seconds=0.0, losses=(), note=note
        )
    manifest = read_manifest(loop.blobs, version.id)
    rows = [row for row in manifest if row.split is Split.TRAIN]
    champion, start = _warm_start(loop)
    data = training_data(loop, version, rows, champion)
    asked = conformance_samples(loop, manifest)
    seed = loop.project.project.seed + night.number
    with _noted(night) as progress:
        trained = train_candidate(loop, replace(data, asked=asked), seed, progress)
    ask_elsewhere_once(loop, trained, asked)
    # Weights before their row: a checkpoint in the ledger can then always be loaded.
    loop.blobs.put(trained.card)
    loop.blobs.put(trained.weights)
    with loop.ledger.begin() as connection:
        add_checkpoint(connection, trained.checkpoint)
        add_trained(connection, data.groups, night.number)
        # Failures labeled by a sensor or an outcome alone still wait for annotators: sensors never test.
        learned = [row.sample_id for row in rows if row.origin not in TRAIN_ONLY]
        move_failures(connection, learned, FailureState.TRAINED_ON, night.number, loop.now())
        release = current_release(connection)
    notes = [start] if start else []
    if release is not None and release.checkpoint_digest == trained.checkpoint.digest:
        notes.append(_SAME)
    return _retrained(trained.checkpoint, "; ".join(notes))


class Epoch(NamedTuple):
    """How far a training is."""

    night: int
    epoch: int
    """1 for the first that has ended"""
    epochs: int
    loss: float
    at: datetime


def epoch_under_way(project: Project) -> Epoch | None:
    """Return the last epoch of the training that runs, or was killed; None: none has ended one."""
    try:
        found = json.loads(_note(project).read_text(encoding="utf-8"))
        return Epoch(**found | {"at": datetime.fromisoformat(found["at"])})
    except (OSError, ValueError):
        return None


def _note(project: Project) -> Path:
    return project.state / "training.json"


@contextmanager
def _noted(night: NightRun) -> Iterator[Progress]:
    """Yield what reports an epoch to the caller of the night, and at most once a second to pages.

    A file, since pages ask every few seconds, and the ledger keeps what happened for good.
    """
    note, due = _note(night.loop.project), 0.0

    def report(epoch: int, epochs: int, loss: float) -> None:
        nonlocal due
        night.progress(epoch, epochs, loss)
        if time.monotonic() < due and epoch < epochs:
            return
        due = time.monotonic() + _NOTE_SECONDS
        now = Epoch(night.number, epoch, epochs, loss, night.loop.now())
        draft = note.with_suffix(".draft")
        with suppress(OSError):  # no training fails because its pages cannot follow it
            draft.write_text(json.dumps(now._asdict(), default=datetime.isoformat), "utf-8")
            draft.replace(note)

    note.unlink(missing_ok=True)
    try:
        yield report
    finally:
        note.unlink(missing_ok=True)


def train_candidate(loop: Loop, data: TrainingData, seed: int, progress: Progress) -> Trained:
    """Train with the devices locked, in this process or in others.

    Workers are forked, which is safe only in a process that has no threads of its own.
    """
    settings = loop.project.train
    is_here = settings.processes == 1 and settings.num_workers == 0
    with hold_devices(settings.device, loop.project.name, number=settings.processes) as held:
        if held.descriptors:
            settings = settings.model_copy(update={"device": held.names[0]})
        if is_here or loop.task.trainer is not None:
            with cpu_threads(settings.cpu_threads):
                return train(
                    loop.task, settings, data, seed=seed, now=loop.now(), progress=progress
                )
        trainers = Trainers(
            task=loop.project.project.task,
            directory=loop.project.directory,
            devices=held.names,
            descriptors=held.descriptors,
            code=loop.task.code,
        )
        return train_distributed(
            trainers, settings, data, seed=seed, now=loop.now(), progress=progress
        )


def ask_elsewhere_once(loop: Loop, trained: Trained, asked: Sequence[Sample]) -> None:
    """Ask a new model in a process in which sets have another order, once for each state of code.

    Raises:
        TaskError: it answers otherwise there, so that no process could serve it.
    """
    code = loop.task.code
    if code is None or not may_follow_hashes(code) or _has_asked(loop, code):
        return
    said = {one.sample_id: one for one in parse_card(trained.card).said}
    samples = [sample for sample in asked if sample.id in said]
    if not samples:
        return
    source = Source(code.path, Path(code.directory), code)
    values = [one.value for one in said.values()]
    fresh = ask_elsewhere(source, trained.weights, samples, values)
    # A process that cannot load it is the release step's to report: the server could not, either.
    answers = fresh.answers.get("cpu")
    fault = answers and differences(
        loop.task,
        [said[sample.id] for sample in samples],
        [(answer.value, answer.confidence) for answer in answers],
    )
    if fault:
        raise TaskError(
            f"the new model is not stored, since another process reads it otherwise: {fault}. Write "
            "classes in a list, or sort what comes from a set, sorted(...); then run flywheel night"
        )


def _has_asked(loop: Loop, code: Code) -> bool:
    """Whether the newest model was made with the same code, so that it was asked elsewhere."""
    with loop.ledger.read() as connection:
        newest = latest_checkpoint(connection)
    card = None if newest is None else read_card(loop.ledger, loop.blobs, newest.digest)[0]
    return card is not None and card.code == replace(code, directory="")


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


def _retrained(checkpoint: Checkpoint, start: str = "") -> Retrained:
    return Retrained(
        candidate_digest=checkpoint.digest,
        device=checkpoint.device,
        train_seconds=checkpoint.train_seconds,
        losses=checkpoint.losses,
        note=f"{checkpoint.recipe}; {start}" if start else checkpoint.recipe,
    )


def _waiting_candidate(loop: Loop, version: DatasetVersion) -> tuple[str | None, str]:
    """A candidate that may still be promoted, and a note; "" means that a new one is trained."""
    with loop.ledger.read() as connection:
        newest = latest_checkpoint(connection)
        if newest is None:
            return None, ""
        trained_on = get_version(connection, newest.dataset_id)
        releases = release_history(connection)
        decision = last_decision_on(connection, newest.digest)
        asked = last_approval(connection)
    if newest.recipe.startswith(SUBMITTED) and decision is None:
        return newest.digest, newest.recipe
    if trained_on.train_set_digest != version.train_set_digest:
        return None, ""
    over = _why_over(newest.digest, releases, decision) or _why_asked(
        newest.digest, decision, asked
    )
    if over:
        return None, f"no new training labels since {over}"
    still, name = challengers(loop), newest.digest[:12]
    if not still or newest.digest in still:
        return newest.digest, f"no new training labels; candidate {name} is judged again"
    waits = f"candidate {name} waits until the challenge of {still[-1][:12]} ends"
    return newest.digest, f"no new training labels; {waits}"


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


def challengers(loop: Loop) -> tuple[str, ...]:
    """The candidates whose challenges of the serving champion are open, the oldest first."""
    with loop.ledger.read() as connection:
        still, champion = open_challenges(connection), released_digest(connection)
    return tuple(one.challenger_digest for one in still if one.champion_digest == champion)


def _warm_start(loop: Loop) -> tuple[bytes | None, str]:
    """The champion's weights, if training may start from them, and what to say of it."""
    with loop.ledger.read() as connection:
        release = current_release(connection)
    if release is None:
        return None, ""
    return warm_start(loop.ledger, loop.blobs, loop.task, release.checkpoint_digest)


def conformance_samples(loop: Loop, rows: list[DatasetRow]) -> list[Sample]:
    """Labeled samples for the card of the new model: of each answer in turn."""
    by_answer: dict[str, list[str]] = {}
    for row in rows:
        by_answer.setdefault(canonical(row.answer), []).append(row.sample_id)
    turns = zip_longest(*by_answer.values())
    ids = [sample_id for turn in turns for sample_id in turn if sample_id is not None]
    with loop.ledger.read() as connection:
        return load_samples(connection, loop.blobs, ids[: num_asked(len(by_answer))])


def training_data(
    loop: Loop, version: DatasetVersion, rows: list[DatasetRow], champion: bytes | None
) -> TrainingData:
    """The training rows of a dataset version, and the weights for a warm start."""
    ids = [row.sample_id for row in rows]
    with loop.ledger.read() as connection:
        groups = groups_of(connection, ids)
    return TrainingData(
        samples=StoredSamples(loop.ledger, loop.blobs, ids),
        answers=[row.answer for row in rows],
        origins=[row.origin for row in rows],
        groups=[groups[row.sample_id] for row in rows],
        weights=[row.weight for row in rows],
        dataset_id=version.id,
        champion=champion,
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
