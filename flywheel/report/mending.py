"""How long mending takes: from a failure that was seen to a model that serves and gets it right.

Most failures of last week are not mended yet; leaving them out would make mending look quick.
They count as waiting so long and no longer, in Kaplan's and Meier's estimate. Refuses to know
where the times are kept.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

import numpy as np
from scipy import stats

from flywheel.ledger.history import Wait
from flywheel.records import Array, Estimate

_DAY_SECONDS = 86_400.0
_FEWEST = 5
"""failures that were mended"""
_POINTS = 200
_TAIL = 0.025


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Mending:
    """How long failures wait until a model that serves answers them right."""

    num_failures: int
    num_fixed: int
    days: Array
    """(N,) rising, 200 at most"""
    shares: Array
    """(N,) of the failures that are mended by then"""
    lows: Array
    highs: Array
    """(N,) each, of their 0.95 interval"""
    median: float | None
    """days until half of them are mended; None: fewer than half will be, as far as is known"""
    median_low: float | None
    median_high: float | None
    """of its interval; None: open at that end"""

    def after(self, days: float) -> Estimate | None:
        """The share that is mended within so many days; None beyond the longest wait."""
        if days > self.days[-1]:
            return None
        at = int(np.searchsorted(self.days, days, side="right")) - 1
        if at < 0:
            return Estimate(value=0.0, low=0.0, high=0.0, num_samples=self.num_failures)
        return Estimate(
            value=float(self.shares[at]),
            low=float(self.lows[at]),
            high=float(self.highs[at]),
            num_samples=self.num_failures,
        )


def mending(waits: Iterable[Wait], now: datetime) -> Mending | None:
    """The time from since to until; None while fewer than 5 failures are mended.

    Formula: Kaplan and Meier's 1 - S(t), a failure that is not mended is censored now; intervals
    are the exponential Greenwood ones on log(-log S); where S is 1 or 0 they are what the number
    still waiting allows at most (Clopper and Pearson). The median is where S reaches 1/2, its
    interval where the interval of S holds 1/2.
    Source: Kaplan and Meier 1958; Brookmeyer and Crowley 1982 for the median.
    """
    known = list(waits)
    ends = [one.until for one in known]
    is_open = np.array([end is None for end in ends], dtype=bool)
    days = np.array(
        [
            max(((end or now) - one.since).total_seconds(), 0.0) / _DAY_SECONDS
            for one, end in zip(known, ends, strict=True)
        ]
    )
    if (~is_open).sum() < _FEWEST:
        return None
    data = stats.CensoredData.right_censored(days, is_open)
    survival = stats.ecdf(data).sf
    with warnings.catch_warnings():  # no interval where nobody or everybody is mended
        warnings.simplefilter("ignore")
        band = survival.confidence_interval(0.95, method="log-log")
    times, left = survival.quantiles, survival.probabilities
    at_risk = _at_risk(days, times)
    least = np.where(left < 1, band.low.probabilities, _TAIL ** (1 / at_risk))
    most = np.where(left > 0, band.high.probabilities, 1 - _TAIL ** (1 / at_risk))
    least, most = np.minimum(np.nan_to_num(least), left), np.maximum(np.nan_to_num(most), left)
    shown = np.unique(np.linspace(0, len(times) - 1, min(len(times), _POINTS)).round().astype(int))
    return Mending(
        num_failures=len(known),
        num_fixed=int((~is_open).sum()),
        days=times[shown],
        shares=1 - left[shown],
        lows=1 - most[shown],
        highs=1 - least[shown],
        median=_reaches_half(times, left),
        median_low=_reaches_half(times, least),
        median_high=_reaches_half(times, most),
    )


def _at_risk(days: Array, times: Array) -> Array:
    """How many had waited for at least as long as each time."""
    counts: Array = len(days) - np.searchsorted(np.sort(days), times, side="left")
    return counts


def _reaches_half(times: Array, left: Array) -> float | None:
    """The first time at which no more than half are left."""
    reached = np.flatnonzero(left <= 0.5)
    return float(times[reached[0]]) if len(reached) else None
