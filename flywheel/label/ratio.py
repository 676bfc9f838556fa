"""What one thing costs of another, with its interval: minutes per answer, money per label.

Times are skewed: a few answers take much longer than most, and Student's interval then ends too
early at its upper end. Refuses to know what is counted and what it is paid with.
"""

from __future__ import annotations

import numpy as np
from scipy import stats

from flywheel.records import Array, Estimate

FEWEST = 5
"""things counted, below which nothing is said"""
_TAIL = 0.025
_UNSEEN = 5.0
"""times as much as usual that something may take of which none was seen so far"""


def ratio(totals: Array, counts: Array) -> Estimate | None:
    """What one of what is counted takes, with a 95 % interval; None when there is too little of it.

    Formula: R = sum t / sum k over N units. Its interval is the hull of Student's, with the
    linearised variance sum (t - R k)^2 N / (N - 1) / (sum k)^2, and of Hall's, which takes the
    skewness of t - R k out of it: R - s / sqrt N g(q), g(q) = 3 sqrt N / c ((1 + c / sqrt N
    (q - c / (6 sqrt N)))^(1/3) - 1) with the skewness c and Student's quantiles q. Of N equal
    units, a share 1 - 0.025^(1/N) may be missing that take nothing, or five times as much.
    Source: Hall, Journal of the Royal Statistical Society B 54 (1992) 221; the rule of three.
    Departure: the hull of both; Student's quantiles in place of the normal ones.

    Args:
        totals: (N,) what each unit took, 0 or more.
        counts: (N,) what it brought, 0 or more.
    """
    number, brought = len(totals), float(counts.sum()) if len(counts) else 0.0
    if number < FEWEST or np.count_nonzero(counts) < FEWEST:
        return None
    value = float(totals.sum()) / brought
    low, high = _bounds((totals - value * counts) * number / brought, value)
    return Estimate(value=value, low=max(low, 0.0), high=high, num_samples=round(brought))


def spread_of(totals: Array, counts: Array) -> float:
    """Standard deviation of what one of what is counted takes; see `ratio`."""
    brought = float(counts.sum())
    errors = totals - float(totals.sum()) / brought * counts
    return float(np.sqrt((errors**2).sum() / max(brought - 1.0, 1.0)))


def _bounds(errors: Array, value: float) -> tuple[float, float]:
    """Of a mean, from the (N,) deviations from it."""
    number = len(errors)
    deviation = float(np.sqrt((errors**2).sum() / (number - 1)))
    if deviation <= 1e-9 * abs(value):
        unseen = 1.0 - _TAIL ** (1.0 / number)
        return (1.0 - unseen) * value, (1.0 + (_UNSEEN - 1.0) * unseen) * value
    step = deviation / np.sqrt(number)
    quantile = float(stats.t.isf(_TAIL, number - 1))
    skewness = float((errors**3).mean()) / deviation**3
    ends = [_unskewed(q, skewness, number) for q in (quantile, -quantile)]
    low = value - step * max(quantile, ends[0])
    high = value - step * min(-quantile, ends[1])
    return float(low), float(high)


def _unskewed(quantile: float, skewness: float, number: int) -> float:
    scaled = skewness / np.sqrt(number)
    if abs(scaled) < 1e-6:
        return quantile
    return float(3.0 / scaled * (np.cbrt(1.0 + scaled * (quantile - scaled / 6.0)) - 1.0))
