"""The steps evaluate and decide, and the production estimate of a night.

Labels of the probability share are sealed until a challenge opens them. The labels that it opens
are stored with the report in one transaction, so that a killed run opens none twice. A verdict
other than PROMOTE is a normal end. The production estimate also uses sealed labels, which is
allowed because no decision reads it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from sqlalchemy import Connection

from flywheel.decide import Standing, next_challenge
from flywheel.decide import decide as decide_on
from flywheel.evaluate import (
    Contest,
    EvaluationData,
    Population,
    Returned,
    Rows,
    Rules,
    production_estimate,
)
from flywheel.evaluate import evaluate as evaluate_models
from flywheel.evaluate.context import LATENCY
from flywheel.evaluate.scoring import CONFIDENCE, score_one
from flywheel.gpu import hold_devices
from flywheel.ledger.annotations import annotations_of
from flywheel.ledger.batches import (
    Drawn,
    LabeledChoice,
    draw_scales,
    draws_since,
    labeled_choices,
    origins,
)
from flywheel.ledger.datasets import read_manifest
from flywheel.ledger.decisions import (
    Opening,
    add_decision,
    all_openings,
    close_challenge,
    last_challenge,
    mean_uses,
    open_challenge,
)
from flywheel.ledger.failures import failures_in, move_failures
from flywheel.ledger.releases import current_release
from flywheel.ledger.reports import add_report, get_report
from flywheel.ledger.samples import groups_of, load_samples
from flywheel.loop.context import Loop, NightRun
from flywheel.loop.results import Decided, Evaluated
from flywheel.loop.retrain import newest_version
from flywheel.metrics.compiled import compile_formula
from flywheel.metrics.names import check_scores
from flywheel.metrics.scores import ScoreTable
from flywheel.model import Model, cpu_threads, pick_device
from flywheel.records import (
    SENSOR,
    Array,
    Challenge,
    DatasetRow,
    DatasetVersion,
    FailureState,
    ProductionEstimate,
    Report,
    Reuse,
    Share,
    Split,
)

_NIGHTS = 7
"""nights whose batches count, including tonight's: a week has every weekday once"""


@dataclass(frozen=True, kw_only=True, slots=True)
class _TestLabels:
    """The challenge of tonight, and the labels that it may use."""

    challenge: Challenge | None
    no_challenge: str
    """why there is none"""
    stale: Challenge | None
    """an open challenge that must close, because its champion no longer serves"""
    opened: dict[str, Opening]
    """every label that a decision has used, including tonight's"""
    new: tuple[str, ...]
    """labels that tonight's challenge unseals"""
    reuse: Reuse


def evaluate(night: NightRun, candidate_digest: str | None) -> Evaluated:
    """Measure candidate, champion and baselines in one pass on the frozen test set."""
    loop = night.loop
    version = newest_version(loop)
    rows = read_manifest(loop.blobs, version.id)
    with loop.ledger.read() as connection:
        release = current_release(connection)
    champion_digest = release.checkpoint_digest if release else None
    labels = _test_labels(night, rows, candidate_digest, champion_digest)
    data = _evaluation_data(loop, rows, labels, version)
    production = estimate_production(loop, night.number)
    project = loop.project
    with (
        hold_devices(project.train.device, project.name) as held,
        cpu_threads(project.train.cpu_threads),
    ):
        contest = Contest(
            candidate=_model(loop, candidate_digest, held.names[0]),
            champion=_model(loop, champion_digest, held.names[0]),
            night=night.number,
            seed=project.project.seed,
            challenge=labels.challenge,
            no_challenge=labels.no_challenge,
            reuse=labels.reuse,
            production=production,
            published=project.published,
            annotators=project.annotators,
            spread=loop.spread,
        )
        evaluation = evaluate_models(loop.task, rules_of(loop), data, contest, now=loop.now())
    # Scores before the report: a report in the ledger then always has its scores.
    loop.blobs.put(evaluation.scores)
    _store(night, evaluation.report, labels)
    return Evaluated(report_id=evaluation.report.id)


def decide(night: NightRun, report_id: str) -> Decided:
    """The verdict of the gate on a report, stored with its reasons."""
    loop = night.loop
    with loop.ledger.begin() as connection:
        report = get_report(connection, report_id)
        decision = decide_on(report, loop.project.metric, loop.project.gate, now=loop.now())
        add_decision(connection, decision)
        if report.challenge is not None and decision.closes_challenge:
            close_challenge(connection, report.challenge, night.number)
    return Decided(decision_id=decision.id, verdict=decision.verdict, reasons=decision.reasons)


def rules_of(loop: Loop) -> Rules:
    """The project's settings of what is measured."""
    project = loop.project
    return Rules(metric=project.metric, abstain=project.abstain, directory=project.directory)


def _test_labels(
    night: NightRun,
    rows: list[DatasetRow],
    candidate_digest: str | None,
    champion_digest: str | None,
) -> _TestLabels:
    """The open challenge, or a new one if there is a candidate and enough sealed labels."""
    gate = night.loop.project.gate
    testing = [row.sample_id for row in rows if row.split is Split.TEST and row.origin != "start"]
    with night.loop.ledger.read() as connection:
        opened = {
            name: opening
            for name, opening in all_openings(connection).items()
            if name in set(testing)
        }
        last, is_closed = last_challenge(connection) or (None, True)
        sealed = tuple(name for name in testing if name not in opened)
        standing = Standing(
            last=last,
            is_closed=is_closed,
            candidate_digest=candidate_digest,
            champion_digest=champion_digest,
            num_sealed=len(sealed),
            night=night.number,
        )
        opening = next_challenge(standing, gate)
        challenge = opening.challenge
        new = sealed if challenge is not None else ()
        # Unsealed labels are fresh evidence for this challenge, and for no later one.
        if challenge is not None:
            mine = Opening(challenge.generation, challenge.number, night.number)
            opened |= dict.fromkeys(new, mine)
        uses = mean_uses(connection, opened, night.number)
    counted = challenge or last
    reuse = Reuse(
        num_test=len(opened),
        num_sealed=len(sealed) - len(new),
        mean_uses=uses,
        num_challenges=counted.number if counted else 0,
        most_challenges=gate.challenges,
    )
    return _TestLabels(
        challenge=challenge,
        no_challenge=opening.reason,
        stale=opening.stale,
        opened=opened,
        new=new,
        reuse=reuse,
    )


def _store(night: NightRun, report: Report, labels: _TestLabels) -> None:
    """Store the report, the challenge and the labels it opened, in one transaction."""
    loop = night.loop
    # Killed before this commit, a run opens the same labels again; killed after it, none.
    with loop.ledger.begin() as connection:
        add_report(connection, report)
        if labels.stale is not None:
            close_challenge(connection, labels.stale, night.number)
        if report.challenge is not None:
            open_challenge(connection, report.challenge, labels.new, night.number)
        if report.guarded is not None:
            fixed = failures_in(connection, FailureState.FIXED)
            known = [failure.sample_id for failure in fixed]
            move_failures(connection, known, FailureState.GUARDED, night.number, loop.now())


def _evaluation_data(
    loop: Loop, rows: list[DatasetRow], labels: _TestLabels, version: DatasetVersion
) -> EvaluationData:
    opened = labels.opened
    testing = [row for row in rows if row.split is Split.TEST]
    seen = [row for row in testing if row.sample_id in opened]
    with loop.ledger.read() as connection:
        drawn = _drawn(connection)
        annotations = annotations_of(connection, [row.sample_id for row in drawn])
        scales = draw_scales(connection)
        fixed = {
            failure.sample_id
            for state in (FailureState.FIXED, FailureState.GUARDED)
            for failure in failures_in(connection, state)
        }
    answered = {annotation.sample_id for annotation in annotations}
    return EvaluationData(
        test=_rows(loop, seen, _fresh_marks(seen, labels, scales)),
        start_test=_rows(loop, [row for row in testing if row.origin == "start"]),
        train=_rows(loop, [row for row in rows if row.split is Split.TRAIN]),
        guarded=_rows(
            loop, [row for row in rows if row.sample_id in fixed and row.origin != SENSOR]
        ),
        asked=_rows(loop, [row for row in drawn if row.sample_id in answered]),
        annotations=annotations,
        dataset_id=version.id,
        test_set_digest=version.test_set_digest,
    )


def _drawn(connection: Connection) -> list[DatasetRow]:
    """Every sample of the probability share, labeled or not, as a row without a label."""
    return [
        DatasetRow(
            sample_id=sample_id,
            split=Split.TEST,
            origin=choice.share.value,
            answer=None,
            weight=1.0 / choice.inclusion_probability,
        )
        for sample_id, choice in sorted(origins(connection).items())
        if choice.share is Share.PROBABILITY and choice.inclusion_probability
    ]


def _fresh_marks(
    rows: list[DatasetRow], labels: _TestLabels, scales: Mapping[str, float]
) -> dict[str, Array]:
    challenge = labels.challenge
    mine = None if challenge is None else (challenge.generation, challenge.number)
    openings = [labels.opened[row.sample_id] for row in rows]
    return {
        "fresh": np.array(
            [(opening.generation, opening.number) == mine for opening in openings], dtype=bool
        ),
        "scale": np.array([scales.get(row.sample_id, 1.0) for row in rows], dtype=np.float64),
        "order": np.array([opening.night for opening in openings], dtype=np.int64),
    }


def _rows(loop: Loop, rows: list[DatasetRow], marks: Mapping[str, Array] | None = None) -> Rows:
    names = [row.sample_id for row in rows]
    with loop.ledger.read() as connection:
        samples = load_samples(connection, loop.blobs, names)
        groups = groups_of(connection, names)
    return Rows(
        samples=samples,
        answers=[row.answer for row in rows],
        weights=np.array([row.weight for row in rows]),
        groups=[groups[name] for name in names],
        marks=marks or {},
    )


def _model(loop: Loop, digest: str | None, device: str) -> Model | None:
    if digest is None:
        return None
    return Model(loop.task, loop.blobs.get(digest), pick_device(device))


def estimate_production(loop: Loop, night_number: int) -> ProductionEstimate | None:
    """The metric in production over the last 7 nights, from the labels that have come back.

    It scores the logged answers, whichever model gave them; no model runs. None below 5 labels of
    the probability share.

    Raises:
        SettingsError: the metric names a score that the task does not give.
        TaskError: a score is not a finite number.
    """
    since = night_number - _NIGHTS + 1
    with loop.ledger.read() as connection:
        labeled = labeled_choices(connection, since)
        draws = draws_since(connection, since)
    if not labeled:
        return None
    project = loop.project
    statistic = compile_formula(project.metric.optimize, project.directory)
    returned = _returned(labeled, draws, _scores(loop, labeled))
    check_scores(statistic, sorted(returned.scores))
    rng = np.random.default_rng([project.project.seed, night_number])
    return production_estimate(statistic, returned, rng)


def _scores(loop: Loop, labeled: list[LabeledChoice]) -> ScoreTable:
    rows = [
        {
            **score_one(loop.task, choice.sample_id, choice.answer, choice.label),
            CONFIDENCE: choice.confidence,
            LATENCY: choice.latency_ms,
        }
        for choice in labeled
    ]
    names = set.intersection(*(set(row) for row in rows))
    return {name: np.array([row[name] for row in rows], dtype=np.float64) for name in names}


def _returned(labeled: list[LabeledChoice], draws: list[Drawn], scores: ScoreTable) -> Returned:
    places = {draw.batch_id: index for index, draw in enumerate(draws)}
    probabilities = [choice.inclusion_probability or np.nan for choice in labeled]
    return Returned(
        ids=tuple(choice.sample_id for choice in labeled),
        scores=scores,
        confidences=np.array([choice.confidence for choice in labeled]),
        probabilities=np.array(probabilities, dtype=np.float64),
        clusters=np.unique([choice.group for choice in labeled], return_inverse=True)[1],
        batches=np.array([places[choice.batch_id] for choice in labeled], dtype=np.int64),
        populations=tuple(
            Population(size=draw.population, mean_confidence=draw.mean_confidence, night=draw.night)
            for draw in draws
        ),
    )
