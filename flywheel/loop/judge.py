"""The steps evaluate and decide.

Labels of the probability share are sealed until a challenge opens them. The candidate that is
judged is that of an open challenge, of several the one whose evidence has come furthest; a newer one
waits until it may open one beside them. The labels that are opened are stored with the report in
one transaction, so that a killed run opens none twice. A verdict other than PROMOTE is a normal end.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from sqlalchemy import Connection

from flywheel.annotate import words
from flywheel.decide import Standing, e_value, next_challenges
from flywheel.decide import decide as decide_on
from flywheel.evaluate import (
    Challenger,
    Contest,
    EvaluationData,
    Rows,
    outcomes_of,
)
from flywheel.evaluate import evaluate as evaluate_models
from flywheel.evaluate.book import LATENCY
from flywheel.evaluate.scoring import CONFIDENCE
from flywheel.ledger.annotations import annotations_of
from flywheel.ledger.batches import draw_scales, origins
from flywheel.ledger.datasets import read_manifest
from flywheel.ledger.failures import failures_in, move_failures
from flywheel.ledger.judged import (
    Opening,
    add_decision,
    add_report,
    all_openings,
    close_challenge,
    get_report,
    last_challenge,
    mean_uses,
    open_challenge,
    open_challenges,
)
from flywheel.ledger.releases import get_checkpoint, released_digest
from flywheel.logged import LoggedModel
from flywheel.loop.context import Loop, NightRun
from flywheel.loop.measuring import device_of, estimate_production, load, rows_of, rules_of
from flywheel.loop.results import Decided, Evaluated
from flywheel.loop.retrain import newest_version
from flywheel.metrics.compiled import compile_formula
from flywheel.model import Model
from flywheel.records import (
    FAILED,
    TRAIN_ONLY,
    Array,
    Challenge,
    DatasetRow,
    DatasetVersion,
    FailureState,
    Report,
    Reuse,
    Share,
    Split,
)


@dataclass(frozen=True, kw_only=True, slots=True)
class _TestLabels:
    """The challenges of tonight, and the labels that they may use."""

    challenges: tuple[Challenge, ...]
    """those that are open, the newest last"""
    challenge: Challenge | None
    """the one that is judged"""
    no_challenge: str
    """why there is none"""
    stale: tuple[Challenge, ...]
    """open challenges that must close: see `Opening`"""
    opened: dict[str, Opening]
    """every label that a decision has used, including tonight's"""
    new: tuple[str, ...]
    """labels that tonight's challenges unseal"""
    reuse: Reuse

    def judged(self, candidate_digest: str | None) -> str | None:
        """The candidate of the challenge; without one, tonight's."""
        return candidate_digest if self.challenge is None else self.challenge.challenger_digest


def evaluate(night: NightRun, candidate_digest: str | None) -> Evaluated:
    """Measure candidate, champion and baselines in one pass on the frozen test set.

    While challenges are open the candidate of one of them is measured, see `_furthest`.
    """
    loop = night.loop
    version = newest_version(loop)
    rows = read_manifest(loop.blobs, version.id)
    with loop.ledger.read() as connection:
        champion_digest = released_digest(connection)
    labels = _test_labels(night, rows, candidate_digest, champion_digest)
    production = estimate_production(loop, night.number)
    project = loop.project
    with device_of(loop) as device:
        champion = load(loop, champion_digest, device) if champion_digest else None
        if champion is not None and len(labels.challenges) > 1:
            labels = _furthest(loop, rows, labels, champion, device)
        data = _evaluation_data(loop, rows, labels, version)
        if isinstance(champion, LoggedModel):
            data = _as_logged(data, champion)
        with loop.ledger.read() as connection:
            on_trust = words(connection, loop.task, project, _fresh(labels))
        judged = labels.judged(candidate_digest)
        contest = Contest(
            candidate=load(loop, judged, device) if judged else None,
            champion=champion,
            night=night.number,
            seed=project.project.seed,
            challenge=labels.challenge,
            no_challenge=labels.no_challenge,
            reuse=labels.reuse,
            production=production,
            published=project.published,
            annotators=project.annotators,
            words=on_trust,
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


def _test_labels(
    night: NightRun,
    rows: list[DatasetRow],
    candidate_digest: str | None,
    champion_digest: str | None,
) -> _TestLabels:
    """The open challenges, and a new one if there is a candidate that may open it."""
    gate = night.loop.project.gate
    testing = [row.sample_id for row in rows if row.split is Split.TEST and row.origin != "start"]
    with night.loop.ledger.read() as connection:
        opened = {
            name: opening
            for name, opening in all_openings(connection).items()
            if name in set(testing)
        }
        last, still = last_challenge(connection), open_challenges(connection)
        is_going = any(one.champion_digest == champion_digest for one in still)
        sealed = tuple(name for name in testing if name not in opened)
        standing = Standing(
            last=last,
            open=still,
            candidate_digest=candidate_digest,
            champion_digest=champion_digest,
            num_sealed=len(sealed),
            night=night.number,
            candidate_labels=_num_labels(night.loop, connection, candidate_digest),
            challenger_labels=_num_labels(
                night.loop, connection, last.challenger_digest if last and is_going else None
            ),
        )
        opening = next_challenges(standing, gate)
        newest = opening.challenges[-1] if opening.challenges else None
        new = sealed if newest is not None else ()
        # Unsealed labels are fresh evidence for these challenges and those beside them, and for no later one.
        if newest is not None:
            mine = Opening(newest.generation, newest.number, night.number)
            opened |= dict.fromkeys(new, mine)
        uses = mean_uses(connection, opened, night.number)
    counted = newest or last
    reuse = Reuse(
        num_test=len(opened),
        num_sealed=len(sealed) - len(new),
        mean_uses=uses,
        num_challenges=counted.number if counted else 0,
        most_challenges=gate.challenges,
    )
    return _TestLabels(
        challenges=opening.challenges,
        challenge=newest,
        no_challenge=opening.reason,
        stale=opening.stale,
        opened=opened,
        new=new,
        reuse=reuse,
    )


def _num_labels(loop: Loop, connection: Connection, digest: str | None) -> int:
    """Number of annotators' labels that a model was trained on; start data is not counted."""
    if digest is None:
        return 0
    rows = read_manifest(loop.blobs, get_checkpoint(connection, digest).dataset_id)
    others = TRAIN_ONLY | {"start"}
    return sum(row.split is Split.TRAIN and row.origin not in others for row in rows)


def _store(night: NightRun, report: Report, labels: _TestLabels) -> None:
    """Store the report, the challenges and the labels they opened, in one transaction."""
    loop = night.loop
    # Killed before this commit, a run opens the same labels again; killed after it, none.
    with loop.ledger.begin() as connection:
        add_report(connection, report)
        for challenge in labels.stale:
            close_challenge(connection, challenge, night.number)
        if report.challenge is not None:
            open_challenge(connection, labels.challenges[-1], labels.new, night.number)
        if report.guarded is not None:
            fixed = failures_in(connection, FailureState.FIXED)
            known = [failure.sample_id for failure in fixed]
            move_failures(connection, known, FailureState.GUARDED, night.number, loop.now())


def _evaluation_data(
    loop: Loop, rows: list[DatasetRow], labels: _TestLabels, version: DatasetVersion
) -> EvaluationData:
    testing = [row for row in rows if row.split is Split.TEST]
    training = [row for row in rows if row.split is Split.TRAIN]
    with loop.ledger.read() as connection:
        drawn = _drawn(connection)
        annotations = annotations_of(connection, [row.sample_id for row in drawn])
        fixed = {
            failure.sample_id
            for state in (FailureState.FIXED, FailureState.GUARDED)
            for failure in failures_in(connection, state)
        }
    answered = {annotation.sample_id for annotation in annotations}
    return EvaluationData(
        test=_tested(loop, rows, labels),
        start_test=rows_of(loop, [row for row in testing if row.origin == "start"]),
        train=rows_of(loop, [row for row in training if row.origin != FAILED]),
        guarded=rows_of(
            loop, [row for row in rows if row.sample_id in fixed and row.origin not in TRAIN_ONLY]
        ),
        # Unlike the dataset's, these rows may be of samples that cannot be loaded any more.
        asked=rows_of(loop, [row for row in drawn if row.sample_id in answered], leaves_out=True),
        annotations=annotations,
        dataset_id=version.id,
        test_set_digest=version.test_set_digest,
    )


def _as_logged(data: EvaluationData, champion: LoggedModel) -> EvaluationData:
    """The data on which a champion can be measured of which there are only logged answers."""
    parts = (data.test, data.start_test, data.train, data.guarded)
    known = champion.known([key for rows in parts for key in rows.ids])
    test, start, train, guarded = (_among(rows, known) for rows in parts)
    return replace(data, test=test, start_test=start, train=train, guarded=guarded)


def _among(rows: Rows, ids: set[str]) -> Rows:
    places = [place for place, key in enumerate(rows.ids) if key in ids]
    return replace(
        rows,
        samples=[rows.samples[place] for place in places],
        answers=[rows.answers[place] for place in places],
        weights=None if rows.weights is None else [rows.weights[place] for place in places],
        groups=None if rows.groups is None else [rows.groups[place] for place in places],
        marks={name: mark[places] for name, mark in rows.marks.items()},
    )


def _tested(loop: Loop, rows: list[DatasetRow], labels: _TestLabels) -> Rows:
    """The frozen test set, marked for the challenge that is judged."""
    seen = _seen(rows, labels)
    return rows_of(loop, seen, _marks(loop, seen, labels))


def _seen(rows: list[DatasetRow], labels: _TestLabels) -> list[DatasetRow]:
    return [row for row in rows if row.split is Split.TEST and row.sample_id in labels.opened]


def _furthest(
    loop: Loop, rows: list[DatasetRow], labels: _TestLabels, champion: Model, device: str
) -> _TestLabels:
    """The labels with the challenge judged whose e-value is the largest part of what it needs.

    Looking at the evidence for this is free of charge: each challenge has a share of alpha of its own,
    and its evidence is valid whenever it is looked at.
    """
    seen = _seen(rows, labels)
    challengers = [
        Challenger(
            model=load(loop, one.challenger_digest, device),
            marks=_marks(loop, seen, replace(labels, challenge=one)),
        )
        for one in labels.challenges
    ]
    outcomes = outcomes_of(
        loop.task, rules_of(loop), rows_of(loop, seen), champion, challengers, loop.spread
    )

    def part(place: int) -> tuple[float, int]:
        """How much of what it needs a challenge has; of equal ones the newest."""
        challenge = labels.challenges[place]
        value = e_value(outcomes[place], loop.project.gate.min_gain)
        return value * challenge.alpha, challenge.number

    furthest = max(range(len(outcomes)), key=part)
    return replace(labels, challenge=labels.challenges[furthest])


def _pair(loop: Loop, labels: _TestLabels) -> tuple[str, str] | None:
    """Challenger and champion, if samples on which they answer alike are no gain for either."""
    project, challenge = loop.project, labels.challenge
    columns = compile_formula(project.metric.optimize, project.directory).columns
    # A function of the task may read any score, also those that differ where the answers do not.
    if challenge is None or not columns or columns & {CONFIDENCE, LATENCY}:
        return None
    return challenge.challenger_digest, challenge.champion_digest


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


def _marks(loop: Loop, rows: list[DatasetRow], labels: _TestLabels) -> dict[str, Array]:
    with loop.ledger.read() as connection:
        scales = draw_scales(connection, _pair(loop, labels), loop.project.gate.min_gain)
    fresh = set(_fresh(labels))
    openings = [labels.opened[row.sample_id] for row in rows]
    return {
        "fresh": np.array([row.sample_id in fresh for row in rows], dtype=bool),
        "scale": np.array([scales.get(row.sample_id, 1.0) for row in rows], dtype=np.float64),
        "order": np.array([opening.night for opening in openings], dtype=np.int64),
    }


def _fresh(labels: _TestLabels) -> list[str]:
    """The labels that are evidence for the challenge that is judged, opened this night or before."""
    challenge = labels.challenge
    if challenge is None:
        return []
    return [name for name, opening in labels.opened.items() if opening.serves(challenge)]
