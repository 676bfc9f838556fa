"""Cost-effectiveness of labeling: cost per answer and label, and expected gain of the next batch.

Costs can be grouped by annotator, campaign, night or slice. Everything that was paid for counts:
skips, gold samples, and answers that led to no label. The gain of the next batch is extrapolated
from the learning curve of the nights so far, with an interval.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple, TypeVar

import numpy as np
from scipy import stats

from flywheel.annotate.cost import FEWEST, Costed, ratio
from flywheel.records import Array, Estimate, Split

_TAIL = 0.025

Key = TypeVar("Key", bound=Hashable)

_FEWEST_NIGHTS = 5
"""nights that a learning curve needs"""
_LEAST_GROWTH = 1.2
"""ratio of training rows, last night to smallest, that a learning curve needs"""


@dataclass(frozen=True, kw_only=True, slots=True)
class Expense:
    """Cost of a set of annotations, and of what they brought."""

    num_annotations: int
    num_answers: int
    """annotations that are neither skipped nor deleted"""
    num_labels: int
    """samples among them with a label by annotators"""
    minutes: float
    """in total"""
    money: float
    """in total, in [cost] currency"""
    minutes_per_answer: Estimate | None
    money_per_answer: Estimate | None
    minutes_per_label: Estimate | None
    money_per_label: Estimate | None
    money_per_right_label: Estimate | None
    """a label counts with its probability of being right"""
    money_per_training_label: Estimate | None


def expense(rows: Sequence[Costed], labels: Mapping[str, float]) -> Expense:
    """Compute what annotations cost and brought.

    Args:
        rows: annotations with their cost.
        labels: sample id -> reliability of its label; without unlabeled samples.
    """
    minutes = np.array([row.minutes for row in rows])
    money = np.array([row.money for row in rows])
    given = np.array([float(row.work.is_given) for row in rows])
    samples = list(dict.fromkeys(row.work.sample_id for row in rows))
    place = {sample: number for number, sample in enumerate(samples)}
    index = np.array([place[row.work.sample_id] for row in rows], dtype=np.intp)
    right = np.array([labels.get(sample, 0.0) for sample in samples])
    labeled = np.array([float(sample in labels) for sample in samples])
    trains = {row.work.sample_id for row in rows if row.work.split is Split.TRAIN}
    training = labeled * np.array([float(sample in trains) for sample in samples])

    def by_sample(values: Array) -> Array:
        return np.bincount(index, values, len(samples))

    return Expense(
        num_annotations=len(rows),
        num_answers=int(given.sum()),
        num_labels=int(labeled.sum()),
        minutes=float(minutes.sum()),
        money=float(money.sum()),
        minutes_per_answer=ratio(minutes, given),
        money_per_answer=ratio(money, given),
        minutes_per_label=ratio(by_sample(minutes), labeled),
        money_per_label=ratio(by_sample(money), labeled),
        money_per_right_label=ratio(by_sample(money), right),
        money_per_training_label=ratio(by_sample(money), training),
    )


def expenses_by(
    rows: Sequence[Costed], labels: Mapping[str, float], key: Callable[[Costed], Sequence[Key]]
) -> dict[Key, Expense]:
    """Return the expense of each group, sorted by key; a row may be in several groups or in none."""
    groups: defaultdict[Key, list[Costed]] = defaultdict(list)
    for row in rows:
        for name in key(row):
            groups[name].append(row)
    return {name: expense(groups[name], labels) for name in sorted(groups)}  # type: ignore[type-var]


def trend(nights: Mapping[int, Expense]) -> Estimate | None:
    """Return how much the cost of a label changes per night: -0.03 is 3 % less each night.

    Formula: exp(b) - 1, b the slope of log(money per label) over the nights with Student's 95 %
    interval. None below 5 nights that have such a cost.
    """
    known = {
        night: spent.money_per_label.value
        for night, spent in nights.items()
        if spent.money_per_label is not None and spent.money_per_label.value > 0
    }
    if len(known) < FEWEST:
        return None
    fitted = stats.linregress(list(known), np.log(list(known.values())))
    half = float(stats.t.isf(_TAIL, len(known) - 2)) * fitted.stderr
    value, low, high = np.expm1([fitted.slope, fitted.slope - half, fitted.slope + half]).tolist()
    return Estimate(value=value, low=low, high=high, num_samples=len(known))


class Point(NamedTuple):
    """One night's candidate, as a point of the learning curve."""

    night: int
    num_train: int
    """rows that the candidate was trained on"""
    metric: Estimate
    """on the frozen test set"""


@dataclass(frozen=True, kw_only=True, slots=True)
class Gain:
    """Expected gain of the next batch."""

    num_labels: int
    """labels of the batch that train"""
    money: Estimate | None
    """cost of these labels"""
    gain: Estimate | None
    """improvement of the metric; positive is better"""
    per_money: Estimate | None
    """improvement of the metric per unit of the currency"""
    note: str
    """why a number is missing; else the data that it rests on"""


def expected_gain(
    points: Sequence[Point], num_labels: int, each: Estimate | None, *, higher_is_better: bool
) -> Gain:
    """Return the expected gain of training on `num_labels` more labels, and their cost.

    Formula: metric = a + b log(rows), fitted by least squares; the gain is b log((n + m) / n) at
    the n rows of the last night. Its 95 % interval is Student's with the slope's standard error:
    the larger of what the scatter around the line and what the metrics' own intervals give. The
    ends of the quotient are the ends of the gain divided by those of the money.
    Source: learning curves are straight in log(rows) over short stretches of their power law.

    Args:
        points: the nights so far, measured by one metric, oldest first.
        num_labels: m, labels of the next batch that train.
        each: cost of one label that trains.
        higher_is_better: direction of the metric.
    """
    money = None if each is None or each.low <= 0 else _scaled(each, num_labels)
    missing = _missing(points)
    if missing:
        return Gain(num_labels=num_labels, money=money, gain=None, per_money=None, note=missing)
    slope, error = _slope(points)
    slope *= 1 if higher_is_better else -1
    half = float(stats.t.isf(_TAIL, len(points) - 2)) * error
    reach = float(np.log1p(num_labels / points[-1].num_train))
    gain = Estimate(
        value=slope * reach,
        low=(slope - half) * reach,
        high=(slope + half) * reach,
        num_samples=len(points),
    )
    note = f"from {len(points)} nights, if it goes on as they went"
    if money is None:
        note += "; what a label costs has too little data"
    return Gain(
        num_labels=num_labels,
        money=money,
        gain=gain,
        per_money=None if money is None else _quotient(gain, money),
        note=note,
    )


def _missing(points: Sequence[Point]) -> str:
    """Return why there is no estimate; "" if there is one."""
    if len(points) < _FEWEST_NIGHTS:
        return f"not enough nights yet: {len(points)} with a measured candidate, {_FEWEST_NIGHTS} are needed"
    rows = [point.num_train for point in points]
    if min(rows) <= 0 or rows[-1] < _LEAST_GROWTH * min(rows):
        return (
            f"not enough nights yet: training rows grew from {min(rows):,} to {rows[-1]:,}, a curve "
            f"needs {_LEAST_GROWTH:g} times as many"
        )
    return ""


def _slope(points: Sequence[Point]) -> tuple[float, float]:
    """Return the slope of the metric over log(rows), and its standard error."""
    logs: Array = np.log([point.num_train for point in points])
    fitted = stats.linregress(logs, [point.metric.value for point in points])
    weights = (logs - logs.mean()) / ((logs - logs.mean()) ** 2).sum()
    widths = np.array([point.metric.high - point.metric.low for point in points])
    measured = float(np.sqrt(((weights * widths / (2 * stats.norm.isf(_TAIL))) ** 2).sum()))
    return float(fitted.slope), max(float(fitted.stderr), measured)


def _scaled(estimate: Estimate, number: int) -> Estimate:
    return Estimate(
        value=estimate.value * number,
        low=estimate.low * number,
        high=estimate.high * number,
        num_samples=estimate.num_samples,
    )


def _quotient(gain: Estimate, money: Estimate) -> Estimate:
    return Estimate(
        value=gain.value / money.value,
        low=gain.low / (money.high if gain.low > 0 else money.low),
        high=gain.high / (money.low if gain.high > 0 else money.high),
        num_samples=gain.num_samples,
    )
