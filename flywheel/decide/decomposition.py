"""Decomposes the error of a model into five terms, each of which calls for another step.

Levels: perfect -> bound -> training data -> held-out start data -> labels that decisions have used
-> fresh labels. What is lost from one level to the next is a term; the terms add up to the whole
error.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from flywheel.decide.vetoes import above, measured, usable
from flywheel.records import Entry, Estimate, Report

STRONG = ("human", "published")
"""Kinds of baselines that show how good a model can be at all."""

_BOUNDS = (*STRONG, "simple ML", "scripted")
"""Kinds of baselines that bound the irreducible error; of equal ones the first counts."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Term:
    """What is lost between two levels, in units of the metric; positive is bad."""

    name: str
    estimate: Estimate | None
    """None: one of its two levels is unknown"""
    meaning: str
    step: str
    """what makes it smaller, as a command"""


@dataclass(frozen=True, kw_only=True, slots=True)
class _Level:
    """A level of the decomposition, and the term that leads to it from the level before."""

    name: str
    term: str
    step: str
    rank: int
    """of the step, where a missing level merges terms: the highest one is taken"""


_LEVELS = (
    _Level(
        name="bound",
        term="irreducible error",
        step="get better labels, or revisit metric.requirement or the metric",
        rank=0,
    ),
    _Level(
        name="train",
        term="avoidable bias",
        step="tune the model: give task.model() more capacity, or train longer",
        rank=2,
    ),
    _Level(
        name="start",
        term="variance",
        step="add training data, augment what there is, or regularise",
        rank=3,
    ),
    _Level(
        name="seen",
        term="distribution shift",
        step="label more failures: collect and label the hard cases of production",
        rank=4,
    ),
    _Level(
        name="fresh",
        term="test-set overfit",
        step="renew the test set with fresh labels",
        rank=1,
    ),
)

_WORDS = {
    "perfect": "a perfect score",
    "train": "the training data",
    "start": "the held-out start data",
    "seen": "the labels that decisions have used",
    "fresh": "fresh labels",
}


def tightest_bound(entries: Sequence[Entry], *, higher_is_better: bool) -> Entry | None:
    """The best fair and measured baseline: the least known upper bound of the irreducible error.

    Annotators, published results, simple ML and scripted rules are compared by value; of equal ones
    the first kind is taken. The requirement is a goal, not a baseline. None when nothing is known.
    """
    known = [
        (entry, number)
        for kind in _BOUNDS
        for entry in entries
        if entry.kind == kind and entry.is_fair and (number := usable(entry.metric)) is not None
    ]
    if not known:
        return None
    best, _ = max(
        known, key=lambda pair: above(pair[1].value, 0.0, higher_is_better=higher_is_better)
    )
    return best


def reference(report: Report) -> Entry | None:
    """What the error is compared with: the tightest bound, or the requirement where it is stricter.

    The requirement is used where no annotator and no published result bounds the error: rules and
    simple ML show how good a model can be only until a model is better than they are.
    """
    up = report.higher_is_better
    bound = tightest_bound(report.entries, higher_is_better=up)
    asked = [entry for entry in report.entries if entry.kind == "requirement"]
    required = measured(asked, "requirement", is_kind=True)
    if required is None or (bound is not None and bound.kind in STRONG):
        return bound
    known = usable(bound.metric) if bound is not None else None
    if known is not None and above(known.value, required.value, higher_is_better=up) >= 0:
        return bound
    return asked[0]


def decompose(report: Report) -> tuple[Term, ...]:
    """The terms of the error of the judged model, in the order of their levels.

    Formula: with the error E of a level, irreducible = E_bound - E_perfect, avoidable bias =
    E_train - E_bound, variance = E_start - E_train, distribution shift = E_seen - E_start and
    test-set overfit = E_fresh - E_seen; their sum telescopes to E_last - E_perfect. E is the
    metric, or minus the metric when higher is better.
    Perfect is 0 when lower is better and no value is below 0, and 1 when higher is better and all
    values are in 0..1; otherwise it is unknown, and the irreducible term has no number.
    An unknown level in between merges its two terms into one that spans it; an unknown level at
    either end leaves its term without a number.
    Interval: `_difference`. The levels share no samples, except a bound and the two halves of the
    test set; these meet only when the levels in between are unknown, and then the interval is too
    wide rather than too narrow as long as both err on the same samples.
    Source: Ng, Machine Learning Yearning, chapters 40 to 43.
    Departure: the test-set term and the bound from annotators, as in the lecture.
    """
    bound = reference(report)
    numbers = {level.name: measured(report.parts, level.name) for level in _LEVELS[1:]}
    numbers["bound"] = usable(bound.metric) if bound is not None else None
    numbers["perfect"] = _perfect(numbers.values(), higher_is_better=report.higher_is_better)
    words = _WORDS | {"bound": _named(bound)}
    terms, last, spanned = [], "perfect", list[_Level]()
    for level in _levels(bound):
        spanned.append(level)
        known, before = numbers[level.name], numbers[last]
        if known is None:
            continue
        # When the first level of the chain is unknown, so is the loss that leads to the next.
        estimate = None
        if before is not None:
            losses = [
                _loss(number, higher_is_better=report.higher_is_better)
                for number in (known, before)
            ]
            estimate = _difference(*losses)
        terms.append(_term(spanned, estimate, f"from {words[last]} to {words[level.name]}"))
        last, spanned = level.name, []
    missing = [
        _term([level], None, f"{words[level.name]} could not be measured") for level in spanned
    ]
    return (*terms, *missing)


def _levels(bound: Entry | None) -> tuple[_Level, ...]:
    """The levels; compared with a requirement, the first error is allowed, not irreducible."""
    if bound is None or bound.kind != "requirement":
        return _LEVELS
    allowed = replace(
        _LEVELS[0], term="allowed error", step="ask for more: raise metric.requirement"
    )
    return (allowed, *_LEVELS[1:])


def _named(bound: Entry | None) -> str:
    if bound is None:
        return "a bound"
    return "the requirement" if bound.kind == "requirement" else f"{bound.name} ({bound.kind})"


def _perfect(numbers: Iterable[Estimate | None], *, higher_is_better: bool) -> Estimate | None:
    values = [number.value for number in numbers if number is not None]
    top = 1.0 if higher_is_better else math.inf
    if not all(0 <= value <= top for value in values):
        return None
    value = 1.0 if higher_is_better else 0.0
    return Estimate(value=value, low=value, high=value, num_samples=0)


def _term(spanned: Sequence[_Level], estimate: Estimate | None, meaning: str) -> Term:
    """The term of a level, or of several levels merged because those in between are unknown.

    Of several steps it takes the one that helps with most of what they span: labels of production
    before other data, data before tuning.
    """
    return Term(
        name=" and ".join(level.term for level in spanned),
        estimate=estimate,
        meaning=meaning,
        step=max(spanned, key=lambda level: level.rank).step,
    )


def _loss(known: Estimate, *, higher_is_better: bool) -> Estimate:
    if not higher_is_better:
        return known
    return Estimate(
        value=-known.value, low=-known.high, high=-known.low, num_samples=known.num_samples
    )


def _difference(one: Estimate, other: Estimate) -> Estimate:
    """The difference of two independent estimates, from their intervals alone (MOVER).

    Formula: with d = a - b, low = d - sqrt((a - a_low)^2 + (b_high - b)^2) and
    high = d + sqrt((a_high - a)^2 + (b - b_low)^2). It keeps the level and the asymmetry of the two
    intervals. num_samples is the smaller of the two; published and exact numbers have none.
    Source: Zou and Donner, Statistics in Medicine 27 (2008) 1693-1702.
    """
    value = one.value - other.value
    sizes = [known.num_samples for known in (one, other) if known.num_samples > 0]
    return Estimate(
        value=value,
        low=value - math.hypot(one.value - one.low, other.high - other.value),
        high=value + math.hypot(one.high - one.value, other.value - other.low),
        num_samples=min(sizes, default=0),
    )
