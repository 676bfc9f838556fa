"""How inexpensively people label: minutes per answer, money per label and per right label.

By person, campaign, night or slice, whatever rows are handed in. Everything that was paid counts:
skips, gold samples, answers that came to no label. Refuses to know prices and budgets.

What the next batch of labels will bring, and what an amount of money brings by it.

From the nights so far, if it goes on as they went: with an interval, or not at all. Refuses to
know where the numbers are kept.
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


@dataclass(frozen=True, kw_only=True, slots=True)
class Expense:
    """What some annotations cost, and what came of it."""

    num_annotations: int
    num_answers: int
    """neither skipped nor deleted"""
    num_labels: int
    """samples among them that have a label of people"""
    minutes: float
    """all together"""
    money: float
    """the same"""
    minutes_per_answer: Estimate | None
    money_per_answer: Estimate | None
    minutes_per_label: Estimate | None
    money_per_label: Estimate | None
    money_per_right_label: Estimate | None
    """a label counts with its chance to be right"""
    money_per_training_label: Estimate | None


def expense(rows: Sequence[Costed], labels: Mapping[str, float]) -> Expense:
    """Sum up what annotations cost.

    Args:
        rows: of which annotations.
        labels: sample -> reliability of its label, where people came to one.
    """
    minutes = np.array([one.minutes for one in rows])
    money = np.array([one.money for one in rows])
    given = np.array([float(one.work.is_given) for one in rows])
    samples = list(dict.fromkeys(one.work.sample_id for one in rows))
    place = {sample: number for number, sample in enumerate(samples)}
    index = np.array([place[one.work.sample_id] for one in rows], dtype=np.intp)
    right = np.array([labels.get(sample, 0.0) for sample in samples])
    labeled = np.array([float(sample in labels) for sample in samples])
    trains = {one.work.sample_id for one in rows if one.work.split is Split.TRAIN}
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
    """The same for each group; a row may belong to several, or to none. Smallest key first."""
    groups: defaultdict[Key, list[Costed]] = defaultdict(list)
    for row in rows:
        for name in key(row):
            groups[name].append(row)
    return {name: expense(groups[name], labels) for name in sorted(groups)}  # type: ignore[type-var]


def trend(nights: Mapping[int, Expense]) -> Estimate | None:
    """How much a label's cost changes from night to night: -0.03 is 3 % less each night.

    Formula: exp(b) - 1, b the slope of log(money per label) over the nights with Student's 95 %
    interval. None below 5 nights that have such a cost.
    """
    known = {
        night: one.money_per_label.value
        for night, one in nights.items()
        if one.money_per_label is not None and one.money_per_label.value > 0
    }
    if len(known) < FEWEST:
        return None
    fitted = stats.linregress(list(known), np.log(list(known.values())))
    half = float(stats.t.isf(_TAIL, len(known) - 2)) * fitted.stderr
    value, low, high = np.expm1([fitted.slope, fitted.slope - half, fitted.slope + half]).tolist()
    return Estimate(value=value, low=low, high=high, num_samples=len(known))


_FEWEST = 5
"""nights"""
_LEAST_GROWTH = 1.2
"""times more training rows in the last of them than in the first"""
_GAIN_TAIL = 0.025


class Point(NamedTuple):
    """What one night's candidate came to."""

    night: int
    num_train: int
    """rows that it was trained on"""
    metric: Estimate
    """on the frozen test set"""


@dataclass(frozen=True, kw_only=True, slots=True)
class Gain:
    """What the next batch is expected to bring."""

    num_labels: int
    """of the batch that train"""
    money: Estimate | None
    """that it costs"""
    gain: Estimate | None
    """of the metric, in the direction that is better"""
    per_money: Estimate | None
    """of the metric, for one unit of the currency"""
    note: str
    """why a number is missing; else what they rest on"""


def expected_gain(
    points: Sequence[Point], num_labels: int, each: Estimate | None, *, higher_is_better: bool
) -> Gain:
    """The gain of training on so many more labels, and of what is paid for them.

    Formula: metric = a + b log(rows), fitted by least squares; the gain is b log((n + m) / n) at
    the n rows of the last night. Its 95 % interval is Student's with the slope's standard error:
    the larger of what the scatter around the line and what the metrics' own intervals give. The
    quotient's ends divide the ends of the gain by those of the money.
    Source: learning curves are straight in log(rows) over short stretches of their power law.

    Args:
        points: of the nights so far, measured by one metric, oldest first.
        num_labels: m, labels of the next batch that train.
        each: money for one label that trains.
        higher_is_better: of the metric.
    """
    money = None if each is None or each.low <= 0 else _scaled(each, num_labels)
    missing = _missing(points)
    if missing:
        return Gain(num_labels=num_labels, money=money, gain=None, per_money=None, note=missing)
    slope, error = _slope(points)
    slope *= 1 if higher_is_better else -1
    half = float(stats.t.isf(_GAIN_TAIL, len(points) - 2)) * error
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
    """Why nothing can be said."""
    if len(points) < _FEWEST:
        return (
            f"not enough nights yet: {len(points)} with a measured candidate, {_FEWEST} are needed"
        )
    rows = [point.num_train for point in points]
    if min(rows) <= 0 or rows[-1] < _LEAST_GROWTH * min(rows):
        return (
            f"not enough nights yet: training rows grew from {min(rows):,} to {rows[-1]:,}, a curve "
            f"needs {_LEAST_GROWTH:g} times as many"
        )
    return ""


def _slope(points: Sequence[Point]) -> tuple[float, float]:
    """Of the metric over log(rows), and its standard error."""
    logs: Array = np.log([point.num_train for point in points])
    fitted = stats.linregress(logs, [point.metric.value for point in points])
    weights = (logs - logs.mean()) / ((logs - logs.mean()) ** 2).sum()
    widths = np.array([point.metric.high - point.metric.low for point in points])
    measured = float(np.sqrt(((weights * widths / (2 * stats.norm.isf(_GAIN_TAIL))) ** 2).sum()))
    return float(fitted.slope), max(float(fitted.stderr), measured)


def _scaled(one: Estimate, number: int) -> Estimate:
    return Estimate(
        value=one.value * number,
        low=one.low * number,
        high=one.high * number,
        num_samples=one.num_samples,
    )


def _quotient(gain: Estimate, money: Estimate) -> Estimate:
    return Estimate(
        value=gain.value / money.value,
        low=gain.low / (money.high if gain.low > 0 else money.low),
        high=gain.high / (money.low if gain.high > 0 else money.high),
        num_samples=gain.num_samples,
    )
