"""Bootstrap intervals for any statistic of one model's scores, or of two models' on the same rows.

Bias-corrected and accelerated (BCa), over rows or clusters, made fast by exact reductions only.
`stats` chooses which statistic gets which interval.

A resample is a row of weights: how often each row was drawn, times its weight. Units are drawn:
single rows, or whole clusters of rows, in chunks of bounded memory.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import scipy

from flywheel.evaluate.intervals import student
from flywheel.metrics.compiled import Statistic, needed
from flywheel.metrics.scores import ScoreTable
from flywheel.records import Array

Measure = Callable[[Array], Array]
"""weights of the cells (B, K) -> values (B, ...)"""

_CHUNK_ELEMENTS = 1_000_000
_OFTEN = 16
_MOST_GROUPS = 1_000
_NOTHING = 1e-9


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Pool:
    """N units of J kinds to draw from, and the K cells of equal scores that they consist of."""

    tables: tuple[ScoreTable, ...]
    """the scores of the cells, (K,) each"""
    copies: Array
    """(J,) int64, units of each kind"""
    spread: scipy.sparse.csr_array
    """(J, K), the weight that one unit of a kind adds to each cell"""

    @property
    def weights(self) -> Array:
        """(1, K), the weights of the cells when every unit is there once."""
        weights: Array = self.spread.T @ self.copies.astype(float)
        return weights[None, :]


def make_pool(tables: Sequence[ScoreTable], weights: Array, clusters: Array) -> Pool:
    """The pool of N rows with scores, weights and clusters, (N,) each.

    Rows with the same scores in every table are one cell, since a statistic sees only their total
    weight. Rows that are their own cluster and have the same scores and weight are units of one
    kind; N draws from J kinds are multinomial. Both reductions are exact: the F1 of two models on
    100,000 rows has 8 cells.
    """
    cells, first = _distinct([table[name] for table in tables for name in sorted(table)])
    units, starts = _distinct([clusters])
    if len(starts) == len(weights):
        units, starts = _distinct([cells, weights])
        copies, added, places = np.bincount(units), weights[starts], cells[starts]
        units = np.arange(len(starts))
    else:
        copies, added, places = np.ones(len(starts), dtype=np.int64), weights, cells
    return Pool(
        tables=tuple({name: table[name][first] for name in table} for table in tables),
        copies=copies,
        spread=scipy.sparse.csr_array((added, (units, places)), shape=(len(starts), len(first))),
    )


def resample(pool: Pool, measure: Measure, number: int, rng: np.random.Generator) -> Array:
    """The measure of each of `number` resamples, (number, ...).

    Memory: a chunk has at most a million counts, weights or single draws, or is one resample.
    """
    widest = max(*pool.spread.shape, int(pool.copies[pool.copies < _OFTEN].sum()))
    sizes = _chunks(number, widest)
    return np.concatenate([measure(_weigh(pool, _draw(pool.copies, n, rng))) for n in sizes])


def leave_out(pool: Pool, measure: Measure, rng: np.random.Generator) -> tuple[Array, Array]:
    """The jackknife: the measure without one unit of each kind (G, ...), and the units of each kind.

    More than 1,000 kinds are left out in 1,000 random groups of units: the skewness of a sum of d
    units is 1 / sqrt(d) that of a unit, so the acceleration, skewness / (6 sqrt(number)), has the
    same expectation.
    """
    removed, times = pool.spread, pool.copies
    if len(times) > _MOST_GROUPS:
        removed, times = _group(pool.copies, rng) @ pool.spread, np.ones(_MOST_GROUPS)
    whole, found, start = pool.weights, [], 0
    for size in _chunks(len(times), whole.size):
        rest = whole - removed[start : start + size].toarray()
        # A cell that loses its last row keeps a rounding error, which must count as absent.
        found.append(measure(np.where(rest > _NOTHING * whole, rest, 0.0)))
        start += size
    return np.concatenate(found), times


def _chunks(number: int, width: int) -> list[int]:
    most = max(1, _CHUNK_ELEMENTS // width)
    return [min(most, number - start) for start in range(0, number, most)]


def _distinct(columns: Sequence[Array]) -> tuple[Array, Array]:
    """The number of each row's distinct combination (N,), and the first row of each (K,)."""
    codes = np.zeros(len(columns[0]), dtype=np.int64)
    first = np.zeros(1, dtype=np.int64)
    for column in columns:
        values, inverse = np.unique(column, return_inverse=True)
        joint = codes * len(values) + inverse
        _, first, codes = np.unique(joint, return_index=True, return_inverse=True)
    return codes, first


def _draw(copies: Array, number: int, rng: np.random.Generator) -> Array:
    """How often each kind is among N units drawn with replacement, (number, J) float64.

    Kinds with many units, and the rest as one kind, are drawn from the multinomial distribution; the
    draws of the rest are then made unit by unit, which has the same law and is faster for few units.
    """
    often = copies >= _OFTEN
    rare = np.repeat(np.arange(np.count_nonzero(~often)), copies[~often])
    shares = np.append(copies[often], len(rare)) / copies.sum()
    drawn = rng.multinomial(int(copies.sum()), shares, size=number)
    counts = np.empty((number, len(copies)))
    counts[:, often] = drawn[:, :-1]
    if len(rare):
        width = int(rare[-1]) + 1
        picked = rng.integers(len(rare), size=int(drawn[:, -1].sum()), dtype=np.uint32)
        places = np.repeat(np.arange(number) * width, drawn[:, -1])
        places += rare[picked] if width < len(rare) else picked
        counts[:, ~often] = np.bincount(places, minlength=number * width).reshape(number, width)
    return counts


def _weigh(pool: Pool, counts: Array) -> Array:
    """The weights of cells (B, K) for counts of kinds (B, J)."""
    num_kinds, num_cells = pool.spread.shape
    # Each kind is its own cell: scaling is cheaper than a sparse product.
    if num_kinds == num_cells and np.array_equal(pool.spread.indices, np.arange(num_cells)):
        return np.asarray(counts * pool.spread.data)
    return np.ascontiguousarray((pool.spread.T @ counts.T).T)


def _group(copies: Array, rng: np.random.Generator) -> scipy.sparse.csr_array:
    """(G, J): how many units of each kind are in each group."""
    units = rng.permutation(np.repeat(np.arange(len(copies)), copies))
    groups = np.arange(len(units)) % _MOST_GROUPS
    shape = (_MOST_GROUPS, len(copies))
    return scipy.sparse.csr_array((np.ones(len(units)), (groups, units)), shape=shape)


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
    peers: tuple[ScoreTable, ...] = ()
    """scores of others on the same rows: what else an answer can have"""

    def needed(self) -> list[ScoreTable]:
        """The tables with the statistic's columns only; with all scores when it names none."""
        return [needed(self.statistic, table) for table in self.tables]

    def measure(self, tables: Sequence[ScoreTable], weights: Array) -> Array:
        """(B,) the contrast under weights (B, K) of the rows or cells of the tables."""
        values = [self.statistic(table, weights) for table in tables]
        with np.errstate(invalid="ignore"):
            return values[0] if len(values) == 1 else values[0] - values[1]

    @property
    def value(self) -> float:
        """The contrast on all rows; NaN where it is undefined."""
        return float(self.measure(self.tables, self.weights[None, :])[0])


class Bootstrapped(NamedTuple):
    """Bounds and standard error of a contrast, from resamples."""

    low: float
    """NaN, like the other bound, where BCa is undefined"""
    high: float
    error: float
    """standard deviation over the resamples"""


def bootstrap(contrast: Contrast, tail: float, rng: np.random.Generator) -> Bootstrapped | None:
    """BCa bounds and the bootstrap standard error of a contrast.

    Formula: as in `_bca`; where rows share a cluster, clusters are drawn and left out.
    4,000 to 20,000 resamples, enough for 50 beyond a bound.
    Exact reductions: equal rows are merged, see `make_pool`. For a statistic of quantiles,
    rows far from them count only as below or above, so these are merged too, see `_snap`; when a
    resampled quantile lies outside its window, everything is drawn again without windows.
    Departure: resamples on which the statistic is not finite (a recall without positives) are
    dropped when they are at most 5 %; the interval is then conditional on being defined.

    Returns:
        None when the statistic is undefined on more than 5 % of the resamples.
    """
    number = _num_resamples(tail)
    tables = contrast.needed()
    windows = [window for index in range(len(tables)) for window in _windows(contrast, index)]
    values, left, times = _run(contrast, tables, windows, number, rng)
    known = values[np.isfinite(values)]
    if len(known) < _DEFINED * number:
        return None
    low, high = _bca(contrast.value, known, tail, left=left, times=times)
    return Bootstrapped(low, high, float(known.std(ddof=1)))


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
        bias = scipy.stats.norm.ppf(below)
        reach = bias + scipy.stats.norm.ppf([tail, 1 - tail])
        levels = scipy.stats.norm.cdf(bias + reach / (1 - acceleration * reach))
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
        return np.asarray((below >= self.level * total) | (above >= (1 - self.level) * total))


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
