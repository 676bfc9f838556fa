"""What the next batch of labels will bring, and what an amount of money brings by it.

From the nights so far, if it goes on as they went: with an interval, or not at all. Refuses to
know where the numbers are kept.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from scipy import stats

from flywheel.records import Array, Estimate

_FEWEST = 5
"""nights"""
_LEAST_GROWTH = 1.2
"""times more training rows in the last of them than in the first"""
_TAIL = 0.025


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
    measured = float(np.sqrt(((weights * widths / (2 * stats.norm.isf(_TAIL))) ** 2).sum()))
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
