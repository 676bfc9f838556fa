"""The second half of a night: retrain, evaluate, decide, release.

A verdict that is not PROMOTE is a normal end. The pointer moves last: after the canary has
answered through the serving process what the evaluation measured.
"""

from __future__ import annotations

import numpy as np

from flywheel.decide import decide as decide_on
from flywheel.decide import share_of_alpha
from flywheel.evaluate import Contest, EvaluationData, Rows
from flywheel.evaluate import evaluate as evaluate_models
from flywheel.ledger.datasets import get_version, latest_version, read_manifest
from flywheel.ledger.failures import move_failures
from flywheel.ledger.labeling import annotations_of
from flywheel.ledger.models import (
    add_checkpoint,
    add_decision,
    add_report,
    count_judged,
    current_release,
    get_report,
    last_decision_on,
    latest_checkpoint,
    release_history,
)
from flywheel.ledger.samples import load_samples
from flywheel.loop.context import Loop, NightRun
from flywheel.loop.results import Decided, Evaluated, Retrained
from flywheel.model import Model, cpu_threads, pick_device
from flywheel.records import Checkpoint, DatasetRow, DatasetVersion, FailureState, Split, Verdict
from flywheel.train import TrainingData, train


def retrain(night: NightRun) -> Retrained:
    """Train a candidate when there are rows that no candidate has been trained on."""
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
    with cpu_threads(loop.project.train.cpu_threads):
        trained = train(
            loop.task,
            loop.project.train,
            _training_data(loop, version, rows),
            seed=loop.project.project.seed + night.number,
            now=loop.now(),
            progress=night.progress,
        )
    loop.blobs.put(trained.weights)
    with loop.ledger.begin() as connection:
        add_checkpoint(connection, trained.checkpoint)
        learned = [row.sample_id for row in rows]
        move_failures(connection, learned, FailureState.TRAINED_ON, night.number, loop.now())
    return _retrained(trained.checkpoint, version)


def evaluate(night: NightRun, candidate_digest: str | None) -> Evaluated:
    """Measure candidate, champion and baselines in one pass on the frozen test set."""
    loop = night.loop
    version = newest_version(loop)
    with loop.ledger.read() as connection:
        release = current_release(connection)
        number = count_judged(connection, before_night=night.number) + 1
    contest = Contest(
        candidate=_model(loop, candidate_digest),
        champion=_model(loop, release.checkpoint_digest if release else None),
        night=night.number,
        alpha=share_of_alpha(loop.project.gate.alpha, number),
    )
    with cpu_threads(loop.project.train.cpu_threads):
        evaluation = evaluate_models(
            loop.task,
            loop.project.metric,
            _evaluation_data(loop, version),
            contest,
            rng=np.random.default_rng([loop.project.project.seed, night.number]),
            now=loop.now(),
        )
    loop.blobs.put(evaluation.scores)
    with loop.ledger.begin() as connection:
        add_report(connection, evaluation.report)
    return Evaluated(report_id=evaluation.report.id)


def decide(night: NightRun, report_id: str) -> Decided:
    """What the gate says, with every reason."""
    loop = night.loop
    with loop.ledger.begin() as connection:
        report = get_report(connection, report_id)
        decision = decide_on(report, loop.project.metric, loop.project.gate, now=loop.now())
        add_decision(connection, decision)
    return Decided(decision_id=decision.id, verdict=decision.verdict, reasons=decision.reasons)


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
    """A candidate trained on the same rows that still may win, and a note; "" says train."""
    with loop.ledger.read() as connection:
        newest = latest_checkpoint(connection)
        if newest is None:
            return None, ""
        trained_on = get_version(connection, newest.dataset_id)
        releases = release_history(connection)
        decision = last_decision_on(connection, newest.digest)
    if trained_on.train_set_digest != version.train_set_digest:
        return None, ""
    if releases and releases[-1].checkpoint_digest == newest.digest:
        return None, "no new training labels since the released model was trained"
    if any(release.checkpoint_digest == newest.digest for release in releases):
        return None, f"no new training labels since {newest.digest[:12]} was rolled back"
    if decision is not None and decision.verdict is Verdict.REJECT:
        return None, f"no new training labels since candidate {newest.digest[:12]} was rejected"
    return newest.digest, f"no new training labels; candidate {newest.digest[:12]} is judged again"


def _training_data(loop: Loop, version: DatasetVersion, rows: list[DatasetRow]) -> TrainingData:
    with loop.ledger.read() as connection:
        release = current_release(connection)
        samples = load_samples(connection, loop.blobs, [row.sample_id for row in rows])
    return TrainingData(
        samples=samples,
        answers=[row.answer for row in rows],
        origins=[row.origin for row in rows],
        dataset_id=version.id,
        champion=loop.blobs.get(release.checkpoint_digest) if release else None,
    )


def _evaluation_data(loop: Loop, version: DatasetVersion) -> EvaluationData:
    rows = read_manifest(loop.blobs, version.id)
    testing = [row for row in rows if row.split is Split.TEST]
    with loop.ledger.read() as connection:
        annotations = annotations_of(connection, [row.sample_id for row in testing])
    return EvaluationData(
        test=_rows(loop, [row for row in testing if row.origin != "start"]),
        start_test=_rows(loop, [row for row in testing if row.origin == "start"]),
        train=_rows(loop, [row for row in rows if row.split is Split.TRAIN]),
        annotations=annotations,
        dataset_id=version.id,
        test_set_digest=version.test_set_digest,
    )


def _rows(loop: Loop, rows: list[DatasetRow]) -> Rows:
    with loop.ledger.read() as connection:
        samples = load_samples(connection, loop.blobs, [row.sample_id for row in rows])
    return Rows(
        samples=samples,
        answers=[row.answer for row in rows],
        weights=np.array([row.weight for row in rows]),
    )


def _model(loop: Loop, digest: str | None) -> Model | None:
    if digest is None:
        return None
    return Model(loop.task, loop.blobs.get(digest), pick_device(loop.project.train.device))
