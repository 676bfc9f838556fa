"""Bootstrap intervals for any statistic of one model's scores, or of two models' on the same rows.

Bias-corrected and accelerated (BCa), over rows or clusters, made fast by exact reductions only.
`stats` chooses which statistic gets which interval.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

from flywheel.evaluate.intervals import student
from flywheel.evaluate.resample import Measure, Pool, leave_out, make_pool, resample
from flywheel.metrics.scores import ScoreTable, Statistic
from flywheel.records import Array

_RESAMPLES = 4_000
_MOST_RESAMPLES = 20_000
_BEYOND = 50
_DEFINED = 0.95
_DEVIATIONS = 8.0
_WIDEST = 3.0
_ENDLESS = 1e9
_ROUNDING = 1e-9


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Contrast:
    """A statistic of N rows of one table, or of a first table minus a second one."""

    statistic: Statistic
    tables: tuple[ScoreTable, ...]
    """one or two, (N,) each score"""
    weights: Array
    """(N,)"""
    clusters: Array
    """(N,) int64; rows with equal numbers are drawn together"""

    def needed(self) -> list[ScoreTable]:
        """The tables with the statistic's columns only; with all columns when it names none."""
        columns = self.statistic.columns
        return [{name: table[name] for name in sorted(columns or table)} for table in self.tables]

    def measure(self, tables: Sequence[ScoreTable], weights: Array) -> Array:
        """(B,) the contrast under weights (B, K) of the rows or cells of the tables."""
        values = [self.statistic(table, weights) for table in tables]
        with np.errstate(invalid="ignore"):
            return values[0] if len(values) == 1 else values[0] - values[1]

    @property
    def value(self) -> float:
        """The contrast on all rows; NaN where it is undefined."""
        return float(self.measure(self.tables, self.weights[None, :])[0])


@dataclass(frozen=True, kw_only=True, slots=True)
class Bootstrapped:
    """Bounds and standard error of a contrast, from resamples."""

    low: float
    """NaN, like the other bound, where BCa is undefined"""
    high: float
    error: float
    """standard deviation over the resamples"""


def bootstrap(
    contrast: Contrast, tail: float, rng: np.random.Generator, num_resamples: int | None = None
) -> Bootstrapped | None:
    """BCa bounds and the bootstrap standard error of a contrast.

    Formula: as in `_bca`; where rows share a cluster, clusters are drawn and left out.
    4,000 to 20,000 resamples, enough for 50 beyond a bound, unless a number is given.
    Exact reductions: equal rows are merged, see `resample.make_pool`. For a statistic of quantiles,
    rows far from them count only as below or above, so these are merged too, see `_snap`; when a
    resampled quantile lies outside its window, everything is drawn again without windows.
    Departure: resamples on which the statistic is not finite (a recall without positives) are
    dropped when they are at most 5 %; the interval is then conditional on being defined.

    Returns:
        None when the statistic is undefined on more than 5 % of the resamples.
    """
    number = num_resamples or _num_resamples(tail)
    tables = contrast.needed()
    windows = [window for index in range(len(tables)) for window in _windows(contrast, index)]
    values, left, times = _run(contrast, tables, windows, number, rng)
    known = values[np.isfinite(values)]
    if len(known) < _DEFINED * number:
        return None
    low, high = _bca(contrast.value, known, tail, left=left, times=times)
    return Bootstrapped(low=low, high=high, error=float(known.std(ddof=1)))


def bootstrap_mean(
    values: Array, weights: Array, tail: float, rng: np.random.Generator
) -> tuple[float, float]:
    """The hull of BCa and bootstrap-t for the weighted mean of values that are not all equal.

    Formula: bootstrap-t is (m - t_{1 - tail} s, m - t_{tail} s), with the quantiles of
    t = (m* - m) / s* over the resamples and s the linearised standard error of
    `intervals.student`. It is second-order correct like BCa, and wider for few skewed values,
    where BCa fails.
    Source: Efron 1979; Hall 1988.
    Departure: bootstrap-t is cut at three of Student's half widths, because s* can be close to 0.
    """
    rows, number = {"value": values, "weight": weights}, len(values)
    pool = make_pool([rows], weights, np.arange(number))

    def measure(drawn: Array) -> Array:
        return _mean_and_error(pool.tables[0], drawn, number)

    # Scores near the limits of float64 make moments 0 or infinite; fmin and fmax skip the NaNs.
    with np.errstate(all="ignore"):
        mean, error = measure(pool.weights)[0]
        resampled = resample(pool, measure, _num_resamples(tail), rng)
        left, times = leave_out(pool, measure, rng)
        low, high = _bca(mean, resampled[:, 0], tail, left=left[:, 0], times=times)
        ratios = (resampled[:, 0] - mean) / resampled[:, 1]
        # s* is 0 where a resample repeats one value; such a ratio is unbounded.
        ratios = np.nan_to_num(ratios, nan=0.0, posinf=_ENDLESS, neginf=-_ENDLESS)
        upper, lower = mean - error * np.quantile(ratios, [tail, 1 - tail])
    furthest = _WIDEST * (student(values, weights, tail)[1] - mean)
    low = np.fmin(low, max(lower, mean - furthest))
    high = np.fmax(high, min(upper, mean + furthest))
    return float(low), float(high)


def _num_resamples(tail: float) -> int:
    return int(np.clip(_BEYOND / tail, _RESAMPLES, _MOST_RESAMPLES))


def _mean_and_error(cells: ScoreTable, drawn: Array, number: int) -> Array:
    """Weights (B, K) -> weighted mean and its linearised standard error, (B, 2)."""
    values, weights = cells["value"], cells["weight"]
    total = drawn.sum(axis=1)
    mean = drawn @ values / total
    # sum over rows of (w (y - m))^2, a cell of weight c w having c rows.
    squares = drawn @ np.stack([weights * values**2, weights * values, weights], axis=1)
    variance = squares[:, 0] - 2 * mean * squares[:, 1] + mean**2 * squares[:, 2]
    variance = np.maximum(variance, 0.0) / total**2 * number / (number - 1)
    return np.stack([mean, np.sqrt(variance)], axis=1)


def _bca(
    value: float, resampled: Array, tail: float, *, left: Array, times: Array
) -> tuple[float, float]:
    """BCa bounds from resamples (B,) and a jackknife: `left` values without one unit, each `times`.

    Formula: the quantiles Phi(z0 + (z0 + z) / (1 - a (z0 + z))) of the resamples, with z the
    normal quantiles of tail and 1 - tail, z0 that of the share of resamples below the value
    (ties count half), and a = sum U^3 / (6 (sum U^2)^1.5), U = mean of the jackknife - its values.
    Source: Efron 1987, as in scipy.stats.bootstrap.
    Departure: jackknife values that are not finite are left out of a.
    """
    left, times = left[np.isfinite(left)], times[np.isfinite(left)]
    below = ((resampled < value).mean() + (resampled <= value).mean()) / 2
    with np.errstate(all="ignore"):
        influence = (times @ left / times.sum() if len(left) else 0.0) - left
        skewness = times @ influence**3 / 6
        scale = (times @ influence**2) ** 1.5
        acceleration = skewness / scale if scale > 0 else 0.0
        bias = stats.norm.ppf(below)
        reach = bias + stats.norm.ppf([tail, 1 - tail])
        levels = stats.norm.cdf(bias + reach / (1 - acceleration * reach))
    if not np.isfinite(levels).all() or (acceleration * reach >= 1).any():
        return math.nan, math.nan
    low, high = np.quantile(resampled, levels)
    return float(low), float(high)


@dataclass(frozen=True, kw_only=True, slots=True)
class _Window:
    """The range in which a quantile of one table lies, in all but one of 10^15 resamples."""

    index: int
    """of the table"""
    name: str
    level: float
    low: float
    high: float

    def misses(self, values: Array, weights: Array) -> Array:
        """(B,) whether the quantile may lie outside, under weights (B, K)."""
        total = weights.sum(axis=1) * (1 - _ROUNDING)
        below = weights @ (values < self.low).astype(float)
        above = weights @ (values > self.high).astype(float)
        missed: Array = (below >= self.level * total) | (above >= (1 - self.level) * total)
        return missed


def _windows(contrast: Contrast, index: int) -> Iterator[_Window]:
    """A window for each quantile: 8 standard deviations of its resampled rank to either side."""
    weights = contrast.weights
    clusters = np.unique(contrast.clusters, return_inverse=True)[1]
    for name, level in contrast.statistic.quantiles or ():
        values = contrast.tables[index][name]
        order = np.argsort(values)
        last = len(order) - 1
        shares = np.cumsum(weights[order]) / weights.sum()
        centre = values[order][min(int(np.searchsorted(shares, level)), last)]
        below = values <= centre
        errors = weights * (below - np.average(below, weights=weights))
        # Standard error of the weighted share of rows at or below the quantile.
        reach = np.sqrt((np.bincount(clusters, errors) ** 2).sum()) / weights.sum()
        ends = level + _DEVIATIONS * np.array([-reach, reach])
        places = np.clip(np.searchsorted(shares, ends), 0, last)
        low, high = values[order][places]
        yield _Window(index=index, name=name, level=level, low=low, high=high)


def _snap(tables: Sequence[ScoreTable], windows: Sequence[_Window]) -> list[ScoreTable]:
    """The tables, with rows outside all windows snapped to one common score on each side of them.

    Exact as long as quantiles stay in their windows: only the weight below and above counts.
    """
    near = np.zeros(len(next(iter(tables[0].values()))), dtype=bool)
    for window in windows:
        values = tables[window.index][window.name]
        near |= (values >= window.low) & (values <= window.high)
    snapped: list[ScoreTable] = []
    for index, table in enumerate(tables):
        snapped.append({})
        for name, values in table.items():
            lows = [
                window.low for window in windows if (window.index, window.name) == (index, name)
            ]
            sides = np.searchsorted(np.sort(lows), values)
            _, first, side = np.unique(sides[~near], return_index=True, return_inverse=True)
            snapped[index][name] = values.copy()
            snapped[index][name][~near] = values[~near][first][side]
    return snapped


def _run(
    contrast: Contrast,
    tables: Sequence[ScoreTable],
    windows: Sequence[_Window],
    number: int,
    rng: np.random.Generator,
) -> tuple[Array, Array, Array]:
    """Resampled values, jackknife values and their multiplicities; without windows when one was left."""
    snapped = _snap(tables, windows) if windows else tables
    pool = make_pool(snapped, contrast.weights, contrast.clusters)
    measure = _watching(contrast, pool, windows)
    resampled = resample(pool, measure, number, rng)
    left, times = leave_out(pool, measure, rng)
    # Outside its window a quantile was read from snapped scores, and is wrong.
    if resampled[:, 1].any() or left[:, 1].any():
        return _run(contrast, tables, (), number, rng)
    return resampled[:, 0], left[:, 0], times


def _watching(contrast: Contrast, pool: Pool, windows: Sequence[_Window]) -> Measure:
    """A measure of weights (B, K) -> (B, 2): the contrast, and 1 when a quantile left its window."""

    def measure(weights: Array) -> Array:
        missed = np.zeros(len(weights), dtype=bool)
        for window in windows:
            missed |= window.misses(pool.tables[window.index][window.name], weights)
        return np.stack([contrast.measure(pool.tables, weights), missed], axis=1)

    return measure
