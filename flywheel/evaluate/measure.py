"""Measures a report from a book of scores and its context; a pure function of its arguments.

It is the only source of the numbers of a report: in the night itself, under another metric later,
and when a decision is replayed. The paired outcomes for the anytime-valid test come from here too:
one gain a sample, in an order fixed before any was seen.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import NamedTuple

import numpy as np

from flywheel.evaluate.abstain import abstention, failed
from flywheel.evaluate.baselines import requirement_entry
from flywheel.evaluate.book import LATENCY, Book, Context, Part
from flywheel.evaluate.lines import GUARD_ALPHA, LATENCY_PART, Lines
from flywheel.evaluate.scoring import CONFIDENCE
from flywheel.metrics.compiled import Statistic, compile_condition, compile_formula, needed
from flywheel.metrics.names import Condition, has_unit, metric_id
from flywheel.metrics.names import check_units as check_units_of
from flywheel.metrics.scores import ScoreTable
from flywheel.records import (
    Abstention,
    Array,
    Entry,
    FreshOutcomes,
    Guarded,
    Report,
    SliceComparison,
    TierSlice,
    Unmeasured,
    Watched,
    canonical,
    content_id,
)
from flywheel.settings.judging import Abstain, Metric

_FEWEST_BASE = 30
_CHUNK_ELEMENTS = 4_000_000
_DIGITS = 10
_MOST_LOST = 20
_PARTS = ("train", "start", "seen", "fresh")


def fresh_outcomes(book: Book, statistic: Statistic, *, higher_is_better: bool) -> FreshOutcomes:
    """The gains of candidate over champion on the fresh labels of the test set.

    Formula: for the mean of a score, the difference of the two scores. For any other statistic M,
    (n + 1) (M(base + candidate's row) - M(base + champion's row)): its sensitivity curve, by how much
    one more sample moves it. The base is the champion's n rows that earlier decisions have used;
    below 30 of them, the rows of both models that the challenge opened in its first night. Such a
    base is symmetric in the two models: if neither is better, every sign is a fair coin given the
    base. Start data would not do as a base: where production is harder, all its rows lie on one
    side of a quantile, and nothing moves it.
    Source: Tukey, Exploratory Data Analysis (1977), for the sensitivity curve.
    """
    fresh, order = _fresh(book)
    sign = 1.0 if higher_is_better else -1.0
    gains = sign * _gains(book, fresh, statistic)[order]
    nights = fresh.marks["order"][order]
    # Above 1 only where the answers were alike; one that is not alike any more is no larger bet.
    scales = np.where(
        gains != 0, np.minimum(fresh.marks["scale"], 1.0)[order], fresh.marks["scale"][order]
    )
    return FreshOutcomes(
        gains=tuple(float(f"{gain:.{_DIGITS}g}") for gain in gains),
        scales=tuple(float(scale) for scale in scales),
        is_bounded=_is_bounded(book, statistic),
        num_new=int((nights == nights.max()).sum()) if len(nights) else 0,
    )


def _fresh(book: Book) -> tuple[Part, Array]:
    """The fresh rows, and their order: by night of opening, then by id, which no score influences."""
    fresh = book["test"].where(book["test"].marks["fresh"])
    return fresh, np.lexsort((np.array(fresh.ids, dtype=np.str_), fresh.marks["order"]))


def _unmeasured(book: Book, context: Context) -> tuple[Unmeasured, ...]:
    if context.challenge is None or "test" not in book:
        return ()
    fresh, order = _fresh(book)
    places = {fresh.ids[row]: place for place, row in enumerate(order.tolist())}
    found = [
        Unmeasured(
            annotator=word.annotator,
            num_gold=word.num_gold,
            num_gold_right=word.num_gold_right,
            labels=tuple(sorted(places[name] for name in word.sample_ids if name in places)),
        )
        for word in context.words
    ]
    found = [one for one in found if one.labels]
    return tuple(sorted(found, key=lambda one: (-len(one.labels), one.annotator)))


def _gains(book: Book, fresh: Part, statistic: Statistic) -> Array:
    candidate, champion = fresh.scores["candidate"], fresh.scores["champion"]
    if statistic.mean_of is not None:
        return candidate[statistic.mean_of] - champion[statistic.mean_of]
    base = _base(book["test"])
    return _moved(statistic, base, candidate) - _moved(statistic, base, champion)


class _Base(NamedTuple):
    """The n rows to which one sample is added."""

    scores: ScoreTable
    weights: Array
    """(n,)"""


def _base(test: Part) -> _Base:
    fresh = test.marks["fresh"]
    seen = test.where(~fresh)
    if len(seen.ids) >= _FEWEST_BASE:
        return _Base(seen.scores["champion"], seen.weights)
    order = test.marks["order"]
    opened = test.where(fresh & (order == order[fresh].min())) if fresh.any() else seen
    champion, candidate = (opened.scores[name] for name in ("champion", "candidate"))
    both = {name: np.concatenate([champion[name], candidate[name]]) for name in champion}
    return _Base(both, np.tile(opened.weights, 2))


def _moved(statistic: Statistic, base: _Base, rows: ScoreTable) -> Array:
    """(m,) the statistic of the base with each of m rows added in turn, times n + 1."""
    columns = list(needed(statistic, rows))
    size = len(base.weights)
    number = len(rows[columns[0]])
    joined = {name: np.concatenate([base.scores[name], rows[name]]) for name in columns}
    # Each added row needs weights of its own, (m, n + m) in all: in chunks, to bound memory.
    chunk = max(1, _CHUNK_ELEMENTS // (size + number))
    values = []
    for start in range(0, number, chunk):
        added = np.arange(start, min(start + chunk, number))
        weights = np.zeros((len(added), size + number))
        weights[:, :size] = base.weights / base.weights.mean()
        weights[np.arange(len(added)), size + added] = 1.0
        values.append(statistic(joined, weights))
    return np.concatenate(values) * (size + 1) if values else np.zeros(0)


def _is_bounded(book: Book, statistic: Statistic) -> bool:
    """Whether the metric is the mean of a bounded score: no unit in its name, all values in 0..1."""
    name = statistic.mean_of
    if name is None or has_unit(name):
        return False
    seen = [
        table[name] for part in book.values() for table in part.scores.values() if name in table
    ]
    return all(bool(((values >= 0) & (values <= 1)).all()) for values in seen)


@dataclass(frozen=True, kw_only=True, slots=True)
class Rules:
    """The settings of what is measured."""

    metric: Metric
    abstain: Abstain
    directory: Path | None
    """where functions of a formula are looked up"""


def measure(
    book: Book, context: Context, rules: Rules, scores_digest: str, *, now: datetime
) -> Report:
    """Every number of a report.

    Raises:
        SettingsError: a formula names a score that the task does not give, or a requirement has
            no unit.
    """
    lines = Lines(book=_with_halves(book), context=context)
    metric = compile_formula(rules.metric.optimize, rules.directory)
    up = rules.metric.higher_is_better
    report = Report(
        id="",
        night=context.night,
        metric=metric.text,
        higher_is_better=up,
        metric_id=metric_id(rules.metric, rules.directory),
        metric_settings=rules.metric.model_dump(mode="json"),
        candidate_digest=context.candidate_digest,
        champion_digest=context.champion_digest,
        dataset_id=context.dataset_id,
        test_set_digest=context.test_set_digest,
        challenge=context.challenge,
        no_challenge=context.no_challenge,
        entries=_entries(lines, metric, rules.metric),
        start_entries=_models(lines, metric, "start"),
        parts=tuple(
            dataclasses.replace(lines.entry(metric, context.judged, part, part, ""), name=part)
            for part in _PARTS
        ),
        difference=lines.gain(metric, lines.part_of(metric), higher_is_better=up, tail=GUARD_ALPHA),
        start_difference=lines.gain(metric, "start", higher_is_better=up),
        slices=_slices(lines, metric, higher_is_better=up),
        people_slices=tuple(_annotator_slices(lines, metric)),
        watched=tuple(_watched(lines, rules)),
        fresh=(fresh_outcomes(book, metric, higher_is_better=up) if context.challenge else None),
        unmeasured=_unmeasured(book, context),
        guarded=_guarded(book, context, metric, rules),
        reuse=context.reuse,
        production=context.production,
        abstention=_abstention(book, context, metric, rules),
        latency_p95_ms=_latency(lines, rules.directory),
        seed=context.seed,
        scores_digest=scores_digest,
        created_at=now,
    )
    return _with_id(report)


def _with_halves(book: Book) -> Book:
    """The book with two more parts, the two halves of the test set: seen and fresh."""
    test = book.get("test")
    if test is None or not test.ids:
        return book
    fresh = test.marks["fresh"]
    return {**book, "seen": test.where(~fresh), "fresh": test.where(fresh)}


def _models(lines: Lines, metric: Statistic, part: str) -> tuple[Entry, ...]:
    context = lines.context
    place = lines.part_of(metric, part)
    models = [lines.entry(metric, name, name, place, context.note) for name in context.models]
    computed = [line for line in context.baselines if line.part == "test"]
    others = [lines.entry(metric, line.name, line.kind, place, line.note) for line in computed]
    return (*models, *others)


def _entries(lines: Lines, metric: Statistic, settings: Metric) -> tuple[Entry, ...]:
    """Every line on the test set: models, all baselines and the requirement."""
    annotators = [
        lines.entry(metric, line.name, line.kind, line.part, line.note)
        for line in lines.context.baselines
        if line.part != "test"
    ]
    requirement = requirement_entry(settings)
    required = () if requirement is None else (requirement,)
    return (*_models(lines, metric, "test"), *annotators, *lines.context.published, *required)


def _slices(
    lines: Lines, metric: Statistic, *, higher_is_better: bool
) -> tuple[SliceComparison, ...]:
    found = []
    for name in lines.context.slices:
        part = lines.slice_part(name)
        found.append(
            SliceComparison(
                name=name,
                difference=lines.slice_gain(metric, name, higher_is_better=higher_is_better),
                num_samples=0 if part is None else len(part.ids),
                candidate=lines.slice_value(metric, name, "candidate"),
                champion=lines.slice_value(metric, name, "champion"),
            )
        )
    return tuple(found)


def _annotator_slices(lines: Lines, metric: Statistic) -> Iterator[TierSlice]:
    for line in lines.context.baselines:
        for name in lines.context.slices if line.part != "test" else ():
            found = lines.tier_slice(metric, line.name, line.part, name)
            if found is not None:
                yield found


def _watched(lines: Lines, rules: Rules) -> list[Watched]:
    conditions = [compile_condition(text, rules.directory) for text in rules.metric.require]
    for condition in conditions:
        _check_units(lines, condition)
    ignored = [compile_formula(text, rules.directory) for text in rules.metric.ignore]
    watched = [
        _watch(lines, condition.statistic, condition.bound, is_upper=condition.is_upper)
        for condition in conditions
    ]
    return watched + [_watch(lines, statistic, None, is_upper=True) for statistic in ignored]


def _check_units(lines: Lines, condition: Condition) -> None:
    part = lines.book.get(lines.part_of(condition.statistic))
    for table in part.scores.values() if part is not None else ():
        if condition.statistic.columns <= table.keys():
            check_units_of(condition, table)


def _watch(lines: Lines, statistic: Statistic, bound: float | None, *, is_upper: bool) -> Watched:
    part = lines.part_of(statistic)
    # For a formula without a bound no direction is better: it is candidate minus champion.
    rises = bound is None or not is_upper
    return Watched(
        formula=statistic.text,
        bound=bound,
        is_upper=is_upper,
        candidate=lines.value(statistic, part, "candidate"),
        champion=lines.value(statistic, part, "champion"),
        difference=lines.gain(statistic, part, higher_is_better=rises),
        note=lines.entry(statistic, lines.context.judged, "", part, "").note,
    )


def _guarded(book: Book, context: Context, metric: Statistic, rules: Rules) -> Guarded | None:
    part = book.get("guarded")
    if part is None or not part.ids or set(context.models) != {"candidate", "champion"}:
        return None
    candidate, champion = (
        failed(
            part.scores[name],
            rules.abstain,
            metric,
            higher_is_better=rules.metric.higher_is_better,
        )
        for name in ("candidate", "champion")
    )
    if candidate is None or champion is None:
        return None
    lost = [
        name
        for name, wrong, was_wrong in zip(part.ids, candidate, champion, strict=True)
        if wrong and not was_wrong
    ]
    return Guarded(
        num_cases=len(part.ids),
        num_kept=int((~candidate).sum()),
        num_kept_by_champion=int((~champion).sum()),
        num_lost=len(lost),
        lost=tuple(lost[:_MOST_LOST]),
    )


def _abstention(book: Book, context: Context, metric: Statistic, rules: Rules) -> Abstention | None:
    part = book.get("test")
    if part is None or context.judged not in part.scores:
        return None
    table = part.scores[context.judged]
    failures = failed(table, rules.abstain, metric, higher_is_better=rules.metric.higher_is_better)
    if failures is None or CONFIDENCE not in table:
        return None
    return abstention(table[CONFIDENCE], failures, part.weights, part.clusters, rules.abstain)


def _latency(lines: Lines, directory: Path | None) -> float | None:
    known = lines.value(compile_formula(f"{LATENCY}.p95", directory), LATENCY_PART, "candidate")
    return None if known is None else known.value


def _with_id(report: Report) -> Report:
    """The report with its id: the hash of its content without the time.

    A field that older versions did not have is left out when empty, so their reports keep their ids.
    """
    content = dataclasses.asdict(report)
    del content["id"], content["created_at"]
    for name in ("people_slices", "unmeasured"):
        if not content[name]:
            del content[name]
    if content["challenge"] and not content["challenge"]["took_over"]:
        del content["challenge"]["took_over"]
    return dataclasses.replace(report, id=content_id(canonical(content).encode()))
