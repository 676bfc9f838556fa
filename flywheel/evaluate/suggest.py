"""Advice on the metric: which number to optimize, to threshold, or to ignore for now.

From stored reports it answers how far each number is from its requirement, how much it moves with
the choice of the model, and what the baselines reach. Threshold what is near its requirement or
hardly moves; optimize what is far from it and moves. It is advice only; no decision reads it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from flywheel.evaluate.book import LATENCY, Book, Context
from flywheel.evaluate.lines import Lines
from flywheel.evaluate.measure import Rules
from flywheel.evaluate.scoring import CONFIDENCE
from flywheel.metrics.compiled import Statistic, compile_condition, compile_formula
from flywheel.metrics.names import has_unit
from flywheel.metrics.scores import ANSWER, LABEL
from flywheel.records import Estimate

OPTIMIZE, THRESHOLD, IGNORE = "optimize", "threshold", "ignore for now"

_SENSITIVE = 2.0
"""Range over the models, in half interval widths, from which a number counts as moving."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Advice:
    """What to do with one number, and why."""

    formula: str
    lower_is_better: bool
    value: Estimate | None
    """of the newest report's judged model"""
    bound: float | None
    """the requirement; None: there is none"""
    distance: float | None
    """to the bound, as a fraction of it; positive falls short"""
    sensitivity: float | None
    """range over all models and computed baselines of the last reports, in half interval widths"""
    best_baseline: tuple[str, float] | None
    """name and value"""
    advice: str
    """optimize, threshold or ignore for now"""
    reason: str


@dataclass(frozen=True, kw_only=True, slots=True)
class _Known:
    statistic: Statistic
    bound: float | None
    is_upper: bool


def suggest(history: Sequence[tuple[Book, Context]], rules: Rules) -> tuple[Advice, ...]:
    """Advice on every formula of the settings, and on every score that they do not use yet.

    Args:
        history: books of the last reports, the newest last; at least one.
        rules: the metric as it is now.
    """
    known = [*_configured(rules), *_others(history[-1], rules)]
    facts = [_facts(history, number) for number in known]
    chosen = _to_optimize(facts, rules)
    return tuple(_advise(fact, chosen) for fact in facts)


def _configured(rules: Rules) -> list[_Known]:
    metric = rules.metric
    optimized = compile_formula(metric.optimize, rules.directory)
    known = [
        _Known(statistic=optimized, bound=metric.requirement, is_upper=not metric.higher_is_better)
    ]
    for text in metric.require:
        condition = compile_condition(text, rules.directory)
        known.append(
            _Known(
                statistic=condition.statistic, bound=condition.bound, is_upper=condition.is_upper
            )
        )
    ignored = [compile_formula(text, rules.directory) for text in metric.ignore]
    known += [_Known(statistic=statistic, bound=None, is_upper=True) for statistic in ignored]
    return known


def _others(newest: tuple[Book, Context], rules: Rules) -> list[_Known]:
    """One statistic for each score that no formula uses; a score with a unit counts as an error."""
    book, context = newest
    used = {name for known in _configured(rules) for name in known.statistic.columns}
    scores = {
        name
        for part in ("test", "start", "latency")
        if part in book
        for name in book[part].scores.get(context.judged, {})
    }
    names = sorted(scores - used - {CONFIDENCE, ANSWER, LABEL})
    return [
        _Known(
            statistic=compile_formula(_usual(name), rules.directory),
            bound=None,
            is_upper=has_unit(name),
        )
        for name in names
    ]


def _usual(name: str) -> str:
    if name == LATENCY:
        return f"{name}.p95"
    return f"{name}.median" if has_unit(name) else f"{name}.mean"


def _facts(history: Sequence[tuple[Book, Context]], known: _Known) -> Advice:
    newest = history[-1]
    part = "test" if _value(newest, known.statistic, newest[1].judged, "test") else "start"
    value = _value(newest, known.statistic, newest[1].judged, part)
    others = [
        number.value
        for entry in history
        for name in (*entry[1].models, *_computed(entry[1]))
        if (number := _value(entry, known.statistic, name, part)) is not None
    ]
    baselines = [
        (name, number.value)
        for name in _computed(newest[1])
        if (number := _value(newest, known.statistic, name, part)) is not None
    ]
    pick = min if known.is_upper else max
    return Advice(
        formula=known.statistic.text,
        lower_is_better=known.is_upper,
        value=value,
        bound=known.bound,
        distance=_distance(value, known),
        sensitivity=_sensitivity(value, others),
        best_baseline=pick(baselines, key=lambda pair: pair[1]) if baselines else None,
        advice="",
        reason="",
    )


def _computed(context: Context) -> tuple[str, ...]:
    return tuple(line.name for line in context.baselines if line.part == "test")


def _value(
    entry: tuple[Book, Context], statistic: Statistic, name: str, part: str
) -> Estimate | None:
    lines = Lines(book=entry[0], context=entry[1])
    return lines.value(statistic, lines.part_of(statistic, part), name)


def _distance(value: Estimate | None, known: _Known) -> float | None:
    if value is None or known.bound is None:
        return None
    short = value.value - known.bound if known.is_upper else known.bound - value.value
    return short / abs(known.bound) if known.bound else short


def _sensitivity(value: Estimate | None, others: list[float]) -> float | None:
    if value is None or len(others) < 2:
        return None
    half = (value.high - value.low) / 2
    return (max(others) - min(others)) / half if half > 0 else None


def _to_optimize(facts: list[Advice], rules: Rules) -> str:
    """The formula to optimize: of those that miss their bound and move, the furthest from it."""
    short = [
        fact
        for fact in facts
        if fact.distance is not None and fact.distance > 0 and (fact.sensitivity or 0) >= _SENSITIVE
    ]
    if short:
        return max(short, key=lambda fact: fact.distance or 0.0).formula
    return compile_formula(rules.metric.optimize, rules.directory).text


def _advise(facts: Advice, chosen: str) -> Advice:
    if facts.formula == chosen:
        return replace(facts, advice=OPTIMIZE, reason=_why_optimize(facts))
    if facts.bound is not None:
        near = "it is met" if (facts.distance or 0) <= 0 else f"{facts.distance:.0%} short of it"
        return replace(facts, advice=THRESHOLD, reason=f"it has a requirement; {near}")
    if facts.best_baseline is not None and (facts.sensitivity or 0) >= _SENSITIVE:
        sign = "<" if facts.lower_is_better else ">"
        name, number = facts.best_baseline
        rule = f'require = ["{facts.formula} {sign} {number:.3g}"]'
        reason = f"it moves with the model; keep what {name} reaches: {rule}"
        return replace(facts, advice=THRESHOLD, reason=reason)
    return replace(
        facts, advice=IGNORE, reason="no requirement, and it hardly moves with the model"
    )


def _why_optimize(facts: Advice) -> str:
    if facts.distance is None:
        return "no number with a requirement is further off; set its requirement to compare them"
    if facts.distance <= 0:
        return "it has reached its requirement: raise it, or threshold it and optimize another"
    return f"{facts.distance:.0%} short of its requirement, and it moves with the model"
