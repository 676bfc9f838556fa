"""What better answers are worth, where some are deferred to the fallback.

A model that fails less answers more at the failure rate that the product allows: what was deferred
becomes an answer, and what is an answer stays as sure as it was.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import astuple, dataclass
from typing import NamedTuple

import numpy as np
import scipy

from flywheel.decide.curve import Outlook
from flywheel.records import Abstention
from flywheel.settings.labeling import Value

_CONFIDENCE = 0.8
"""of an interval, as that of a forecast"""
_BETWEEN = 21
"""gains of the interval: with more right answers the money may fall first, then rise"""


@dataclass(frozen=True, kw_only=True, slots=True)
class Deferred:
    """The share of production that goes to the fallback."""

    now: Outlook
    """0..1, below the threshold of the newest report"""
    then: Outlook
    """0..1, with the gain"""


class Worth(NamedTuple):
    """What a gain is worth."""

    money: Outlook
    """in the currency of [cost]"""
    deferred: Deferred | None
    """None: nothing is deferred"""


def worth_of(
    gain: Outlook,
    num_predictions: float,
    value: Value,
    found: Abstention | None,
    num_samples: int,
) -> Worth | None:
    """Return what a gain in the share of right answers is worth; None: all answers are worth the same.

    Formula: a prediction is worth V = c (1 - f) right + c f wrong + (1 - c) deferred, where c is the share
    that is answered and f the failure rate of it. With a gain g failures become s = 1 - g / F times as
    frequent, F being the failure rate if all were answered; c' is where s times the bound of the failure
    rate is what it is at the threshold today, on lines between the points of the risk-coverage curve.
    The gain is worth V(c', s f(c')) - V(c, f); where nothing is deferred that is g (right - wrong).
    Departure: failures grow rarer at all confidences alike, and confidences stay as they are; the
    interval holds what any gain of the gain's interval is worth, and not the error of the curve.

    Args:
        gain: of the metric, positive is better.
        num_predictions: that it is had on.
        value: the [value] section.
        found: of the newest report; None, or without a threshold: nothing is deferred.
        num_samples: that `found` was measured on.
    """
    operating = _Operating.of(found) if found is not None else None
    if operating is None:
        each = value.right - value.wrong
        ends = [one * num_predictions * each for one in astuple(gain)]
        return Worth(_around(ends[1], ends), None) if each else None
    if value.right == value.wrong == value.deferred:
        return None
    now = operating.after(0.0)
    splits = [operating.after(one) for one in np.linspace(gain.low, gain.high, _BETWEEN).tolist()]
    middle = operating.after(gain.middle)
    money = [
        num_predictions * (_value(one, value) - _value(now, value)) for one in (middle, *splits)
    ]
    deferred = [1 - one.answered for one in (middle, *splits)]
    return Worth(
        _around(money[0], money),
        Deferred(now=_share(1 - now.answered, num_samples), then=_around(deferred[0], deferred)),
    )


class _Split(NamedTuple):
    """Shares of production, 0..1."""

    answered: float
    failing: float
    """answered wrong"""


class _Operating(NamedTuple):
    """The risk-coverage curve from the threshold on, P points by rising coverage."""

    answered: list[float]
    failing: list[float]
    """(P,) share of production that is answered wrong"""
    bounds: list[float]
    """(P,) of the failure rate, as high as at any point before"""

    @classmethod
    def of(cls, found: Abstention) -> _Operating | None:
        """None where nothing is deferred."""
        lower = found.threshold
        if lower is None:
            return None
        points = sorted(found.curve, key=lambda point: point.coverage)
        first = max(sum(point.threshold >= lower for point in points) - 1, 0)
        points = points[first:]
        if not points or points[0].coverage >= 1 or points[-1].failure_rate == 0:
            return None
        return cls(
            [point.coverage for point in points],
            [point.coverage * point.failure_rate for point in points],
            np.maximum.accumulate([point.failure_bound for point in points]).tolist(),
        )

    def after(self, gain: float) -> _Split:
        """Return what is answered once that much more of production is right."""
        left = min(max(1 - gain / self.failing[-1], 0.0), 1.0)
        # The bound that a point had today if it is at the allowed one with fewer failures.
        bound = self.bounds[0] / left if left else self.bounds[-1]
        answered = float(np.interp(bound, self.bounds, self.answered))
        return _Split(answered, left * float(np.interp(answered, self.answered, self.failing)))


def _value(split: _Split, value: Value) -> float:
    right = split.answered - split.failing
    return right * value.right + split.failing * value.wrong + (1 - split.answered) * value.deferred


def _share(value: float, num_samples: int) -> Outlook:
    """A share with Wilson's interval."""
    test = scipy.stats.binomtest(round(value * num_samples), num_samples)
    found = test.proportion_ci(_CONFIDENCE, method="wilson")
    return Outlook(min(found.low, value), value, max(found.high, value))


def _around(middle: float, values: Sequence[float]) -> Outlook:
    return Outlook(min(values), middle, max(values))
