"""The evaluation pass: all entrants answer the same frozen rows, and the scores become a book.

Stored scores are never compared with new ones: the champion is measured again beside the
candidate, on the same bytes in the same order. The same conditions for a single model, outside an
evaluation, are `answered_right` and `latency_fault`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime

import numpy as np

from flywheel.calls import unguarded
from flywheel.errors import FlywheelError
from flywheel.evaluate.abstain import failed
from flywheel.evaluate.baselines import annotator_tables, fit_baselines, published_entries
from flywheel.evaluate.book import (
    LATENCY,
    BaselineLine,
    Book,
    Context,
    Rows,
    latency_part,
    pack_book,
    slice_marks,
)
from flywheel.evaluate.lines import measured_of
from flywheel.evaluate.measure import Rules, fresh_outcomes, measure
from flywheel.evaluate.scoring import Spread, score_answers, score_entrants
from flywheel.evaluate.stats import estimate
from flywheel.ledger.codec import to_json
from flywheel.metrics.compiled import compile_condition, compile_formula
from flywheel.metrics.names import short_names
from flywheel.metrics.scores import ScoreTable
from flywheel.model import Model
from flywheel.records import (
    Annotation,
    Array,
    Challenge,
    Estimate,
    FreshOutcomes,
    Json,
    ProductionEstimate,
    Report,
    Reuse,
    Word,
    content_id,
)
from flywheel.scoring.classes import are_classes
from flywheel.settings.judging import Published
from flywheel.settings.labeling import AnnotatorSettings
from flywheel.task import Predictor, Task

_TRAIN_ROWS = 1_000
"""Most training rows on which the judged model is measured; a random subset."""


@dataclass(frozen=True, kw_only=True, slots=True)
class EvaluationData:
    """The rows of one dataset version to measure on, and those that the baselines are fitted on."""

    test: Rows
    """the frozen test set: unsealed labels of the probability share; marks: fresh (opened by the
    running challenge), scale and order (see `records.FreshOutcomes`)"""
    start_test: Rows
    """held-out rows of the start data"""
    train: Rows
    """for fitting the baselines, and a subset for the training error"""
    guarded: Rows
    """failures that were fixed before"""
    asked: Rows
    """all of the probability share that annotators answered, including disputed samples (label None);
    without these, annotators would be measured only where they agree"""
    annotations: Sequence[Annotation] = field(repr=False)
    """of the samples in `asked`; others are ignored"""
    dataset_id: str
    test_set_digest: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Contest:
    """The models to compare, the night, and what the report says besides scores."""

    candidate: Model | None
    """None when nothing new was trained"""
    champion: Model | None
    """None before the first release"""
    night: int
    seed: int
    challenge: Challenge | None
    no_challenge: str
    """why there is none"""
    reuse: Reuse
    production: ProductionEstimate | None
    published: Sequence[Published]
    annotators: AnnotatorSettings
    words: Sequence[Word] = ()
    """of annotators who are not measured"""
    spread: Spread | None = None
    """scores the models in other processes; None: this process does"""


@dataclass(frozen=True, kw_only=True, slots=True)
class Evaluation:
    """A report and the scores behind it."""

    report: Report
    scores: bytes = field(repr=False)
    """npz, see `book.pack_book`; its SHA-256 is report.scores_digest"""


def evaluate(
    task: Task, rules: Rules, data: EvaluationData, contest: Contest, *, now: datetime
) -> Evaluation:
    """The report on the candidate, the champion, the baselines and the annotators.

    A candidate with the champion's own weights counts as nothing new, and the champion's line says
    so. Everything but the latency is the same for the same arguments.

    Raises:
        FlywheelError: a sample is in both training and test rows.
        SettingsError: a formula names an unknown score.
        TaskError: a score is not a finite number, or an entrant's answers do not fit the samples.
    """
    _check_apart(data)
    kept = [] if hasattr(unguarded(task.scores), "classes") else ["test", "start_test"]
    kept = [name for name in kept if are_classes(getattr(data, name).answers)]
    if _needs_answers(task, rules):
        kept = ["test", "start_test", "train", "guarded", "asked"]
    parts = {name: replace(getattr(data, name), keeps_answers=True) for name in kept}
    data = replace(data, **parts)
    models, note = _models(contest)
    rng = np.random.default_rng([contest.seed, contest.night])
    predictors, faults = fit_baselines(task.baselines, data.train)
    book = _book(task, data, models, predictors, contest.spread, rng)
    annotators, lines = annotator_tables(
        task, contest.annotators, data.asked, data.annotations, rng
    )
    book |= annotators
    computed = [
        BaselineLine(name=name, kind=baseline.kind, part="test", note=faults.get(name, ""))
        for name, baseline in task.baselines.items()
    ]
    context = _context(task, data, contest, note)
    context = replace(context, baselines=(*computed, *lines))
    settings = rules.abstain.model_dump(mode="json")
    scores = pack_book(book, {"context": to_json(context), "abstain": settings})
    report = measure(book, context, rules, content_id(scores), now=now)
    return Evaluation(report=report, scores=scores)


def _needs_answers(task: Task, rules: Rules) -> bool:
    """Whether a formula is about whole answers, or a short name of the task's scores would be."""
    metric, names = rules.metric, short_names(task.scores)
    texts = [metric.optimize, *metric.ignore, *names.values()]
    statistics = [compile_formula(text, rules.directory) for text in texts]
    statistics += [compile_condition(text, rules.directory).statistic for text in metric.require]
    return any(statistic.needs_answers for statistic in statistics)


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Challenger:
    """A model whose challenge is open, and the marks of the test set that hold for it."""

    model: Model
    marks: Mapping[str, Array]
    """(N,) each, see `book.Rows`"""


def outcomes_of(
    task: Task,
    rules: Rules,
    test: Rows,
    champion: Model,
    challengers: Sequence[Challenger],
    spread: Spread | None,
) -> list[FreshOutcomes]:
    """Per challenger, its paired outcomes with the champion on its fresh rows, as a report has them.

    Every model is asked once.

    Raises:
        TaskError: a score is not a finite number.
    """
    models = {f"{place}": one.model for place, one in enumerate(challengers)}
    statistic = compile_formula(rules.metric.optimize, rules.directory)
    test = replace(test, keeps_answers=statistic.needs_answers)
    tables = score_entrants(task, test, {**models, "champion": champion}, {}, spread)
    marks, found = _marks(task, test), []  # those of slices hold for all
    for place, one in enumerate(challengers):
        marked = replace(test, marks={**marks, **one.marks})
        names = {"candidate": f"{place}", "champion": "champion"}
        pair = {name: tables[key] for name, key in names.items() if tables}
        book = {"test": marked.part(pair)}
        found.append(
            fresh_outcomes(book, statistic, higher_is_better=rules.metric.higher_is_better)
        )
    return found


def values_of(
    task: Task, rules: Rules, rows: Rows, models: Mapping[str, Model], *, seed: int
) -> dict[str, dict[str, Estimate]]:
    """Per model, the value of the metric and of each required formula that these rows can measure.

    Raises:
        TaskError: a score is not a finite number.
    """
    conditions = [compile_condition(text, rules.directory) for text in rules.metric.require]
    statistics = [compile_formula(rules.metric.optimize, rules.directory)]
    statistics += [one.statistic for one in conditions if one.statistic.columns != {LATENCY}]
    rows = replace(rows, keeps_answers=any(one.needs_answers for one in statistics))
    part = rows.part(score_entrants(task, rows, models, {}))
    found: dict[str, dict[str, Estimate]] = {name: {} for name in models}
    for name in models if rows.samples else ():
        for statistic in statistics:
            measured = measured_of(part, name, statistic)
            known = estimate(statistic, measured, np.random.default_rng(seed))
            if known is not None:
                found[name][statistic.text] = known
    return found


def _book(
    task: Task,
    data: EvaluationData,
    models: Mapping[str, Model],
    predictors: Mapping[str, Predictor],
    spread: Spread | None,
    rng: np.random.Generator,
) -> Book:
    test = replace(data.test, marks=_marks(task, data.test))
    start, sampled = data.start_test, _some(data.train, _TRAIN_ROWS, rng)
    # The candidate, else the champion: the training error is needed of one model only.
    judged = dict(list(models.items())[:1])
    book = {
        "test": test.part(score_entrants(task, test, models, predictors, spread)),
        "start": start.part(score_entrants(task, start, models, predictors, spread)),
        "train": sampled.part(score_entrants(task, sampled, judged, {}, spread)),
        "guarded": data.guarded.part(score_entrants(task, data.guarded, models, {}, spread)),
    }
    timed = data.test.samples or data.start_test.samples
    return {**book, "latency": latency_part(models, timed)}


def _marks(task: Task, rows: Rows) -> dict[str, Array]:
    """The marks of the test set: its own, defaults for missing ones, and one for each slice."""
    number = len(rows.samples)
    marks: dict[str, Array] = {
        "fresh": np.zeros(number, dtype=bool),
        "scale": np.ones(number),
        "order": np.zeros(number, dtype=np.int64),
        **rows.marks,
    }
    return marks | slice_marks(task, rows)


def _some(rows: Rows, most: int, rng: np.random.Generator) -> Rows:
    """At most `most` of the rows, drawn at random, in their order."""
    if len(rows.samples) <= most:
        return rows
    chosen = np.sort(rng.choice(len(rows.samples), size=most, replace=False)).tolist()
    return Rows(
        samples=[rows.samples[index] for index in chosen],
        answers=[rows.answers[index] for index in chosen],
        keeps_answers=rows.keeps_answers,
    )


def _check_apart(data: EvaluationData) -> None:
    trained_on = set(data.train.ids)
    for part, rows in (("test set", data.test), ("start test", data.start_test)):
        shared = trained_on.intersection(rows.ids)
        if shared:
            raise FlywheelError(
                f"{len(shared)} samples of the {part} are also training rows, {min(shared)} for example: "
                f"dataset {data.dataset_id} is faulty. Build it again"
            )


def _models(contest: Contest) -> tuple[dict[str, Model], str]:
    """The models to measure, and a note when the candidate is not a new one."""
    models = {"candidate": contest.candidate, "champion": contest.champion}
    present = {name: model for name, model in models.items() if model is not None}
    if len({model.digest for model in present.values()}) == len(present):
        return present, ""
    del present["candidate"]
    return present, "training gave the champion's own weights: nothing new"


def _context(task: Task, data: EvaluationData, contest: Contest, note: str) -> Context:
    candidate = None if note else contest.candidate
    return Context(
        night=contest.night,
        seed=contest.seed,
        candidate_digest=None if candidate is None else candidate.digest,
        champion_digest=None if contest.champion is None else contest.champion.digest,
        dataset_id=data.dataset_id,
        test_set_digest=data.test_set_digest,
        challenge=contest.challenge if candidate is not None else None,
        no_challenge=contest.no_challenge,
        reuse=contest.reuse,
        production=contest.production,
        baselines=(),
        published=tuple(published_entries(contest.published)),
        slices=tuple(task.slices),
        note=note,
        words=tuple(contest.words),
    )


def answered_right(task: Task, model: Model, rows: Rows, rules: Rules) -> list[bool] | None:
    """Whether the model's answer to each row is not a failure; None where nothing defines one."""
    if not rows.samples:
        return []
    return _are_right(score_entrants(task, rows, {"model": model}, {})["model"], rules)


def logged_right(
    task: Task, rows: Rows, answers: Sequence[Json], rules: Rules
) -> list[bool] | None:
    """The same of answers that the log holds, one for each row; no payload is read."""
    if not rows.samples:
        return []
    return _are_right(score_answers(task, rows, answers, "the log"), rules)


def _are_right(table: ScoreTable, rules: Rules) -> list[bool] | None:
    metric = compile_formula(rules.metric.optimize, rules.directory)
    failures = failed(table, rules.abstain, metric, higher_is_better=rules.metric.higher_is_better)
    return None if failures is None else [not is_failure for is_failure in failures.tolist()]


def latency_fault(milliseconds: Sequence[float], rules: Rules) -> str:
    """The first latency requirement that these times break, as a sentence; "" when all are met."""
    scores = {LATENCY: np.array(milliseconds, dtype=np.float64)}
    for text in rules.metric.require:
        condition = compile_condition(text, rules.directory)
        if condition.statistic.columns != {LATENCY}:
            continue
        value = float(condition.statistic(scores, np.ones((1, len(milliseconds))))[0])
        if not condition.met(value):
            return f"{condition.statistic.text} is {value:.1f} ms, the requirement is {text}"
    return ""
