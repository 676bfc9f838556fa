"""A book of scores and its context -> a report. Pure: the same bytes in, the same report out.

This is the only way to a number of a report, on the night itself, under another metric later,
and when a decision is replayed. Refuses to run a model and to decide anything.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from flywheel.evaluate.abstain import abstention, failed
from flywheel.evaluate.baseline import requirement_entry
from flywheel.evaluate.book import Book
from flywheel.evaluate.context import Context
from flywheel.evaluate.fresh import fresh_outcomes
from flywheel.evaluate.latency import LATENCY
from flywheel.evaluate.lines import GUARD_ALPHA, LATENCY_PART, Lines
from flywheel.evaluate.metric import Condition, compile_condition, compile_formula, metric_id
from flywheel.evaluate.metric import check_units as check_units_of
from flywheel.evaluate.scoring import CONFIDENCE
from flywheel.evaluate.statistic import Statistic
from flywheel.project import Abstain, Metric
from flywheel.records import (
    Abstention,
    Entry,
    Guarded,
    Report,
    SliceComparison,
    TierSlice,
    Watched,
    canonical,
    content_id,
)

_MOST_LOST = 20
_PARTS = ("train", "start", "seen", "fresh")


@dataclass(frozen=True, kw_only=True, slots=True)
class Rules:
    """What is measured."""

    metric: Metric
    abstain: Abstain
    directory: Path | None
    """where the functions of a formula are looked up"""


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
        difference=lines.gain(metric, lines.place(metric), higher_is_better=up, tail=GUARD_ALPHA),
        start_difference=lines.gain(metric, "start", higher_is_better=up),
        slices=_slices(lines, metric, higher_is_better=up),
        people_slices=tuple(_people_slices(lines, metric)),
        watched=tuple(_watched(lines, rules)),
        fresh=(fresh_outcomes(book, metric, higher_is_better=up) if context.challenge else None),
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
    """The book with the test set's two halves as parts of their own: seen, and fresh."""
    test = book.get("test")
    if test is None or not test.ids:
        return book
    fresh = test.marks["fresh"]
    return {**book, "seen": test.where(~fresh), "fresh": test.where(fresh)}


def _models(lines: Lines, metric: Statistic, part: str) -> tuple[Entry, ...]:
    context = lines.context
    place = lines.place(metric, part)
    models = [lines.entry(metric, name, name, place, context.note) for name in context.models]
    computed = [line for line in context.baselines if line.part == "test"]
    others = [lines.entry(metric, line.name, line.kind, place, line.note) for line in computed]
    return (*models, *others)


def _entries(lines: Lines, metric: Statistic, settings: Metric) -> tuple[Entry, ...]:
    """Every line on the test set: models, all baselines and the requirement."""
    people = [
        lines.entry(metric, line.name, line.kind, line.part, line.note)
        for line in lines.context.baselines
        if line.part != "test"
    ]
    requirement = requirement_entry(settings)
    required = () if requirement is None else (requirement,)
    return (*_models(lines, metric, "test"), *people, *lines.context.published, *required)


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


def _people_slices(lines: Lines, metric: Statistic) -> Iterator[TierSlice]:
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
    watched = [_watch(lines, one.statistic, one.bound, is_upper=one.is_upper) for one in conditions]
    return watched + [_watch(lines, one, None, is_upper=True) for one in ignored]


def _check_units(lines: Lines, condition: Condition) -> None:
    part = lines.book.get(lines.place(condition.statistic))
    for table in part.scores.values() if part is not None else ():
        if condition.statistic.columns <= table.keys():
            check_units_of(condition, table)


def _watch(lines: Lines, statistic: Statistic, bound: float | None, *, is_upper: bool) -> Watched:
    part = lines.place(statistic)
    # Nobody said which way is better for what is only looked at: it is candidate minus champion.
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
    """The report with the hash of its content, the time left out, as its id.

    What older versions did not measure is left out where it is empty: their reports keep their ids.
    """
    content = dataclasses.asdict(report)
    del content["id"], content["created_at"]
    if not report.people_slices:
        del content["people_slices"]
    return dataclasses.replace(report, id=content_id(canonical(content).encode()))
