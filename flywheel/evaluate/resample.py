"""Draws and measures resamples of weighted rows, in chunks of bounded memory.

A resample is a row of weights: how often each row was drawn, times its weight. Units are drawn:
single rows, or whole clusters of rows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import sparse

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
    spread: sparse.csr_array
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
        spread=sparse.csr_array((added, (units, places)), shape=(len(starts), len(first))),
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


def _chunks(number: int, width: int) -> Iterator[int]:
    most = max(1, _CHUNK_ELEMENTS // width)
    for start in range(0, number, most):
        yield min(most, number - start)


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
        weights: Array = counts * pool.spread.data
    else:
        weights = np.ascontiguousarray((pool.spread.T @ counts.T).T)
    return weights


def _group(copies: Array, rng: np.random.Generator) -> sparse.csr_array:
    """(G, J): how many units of each kind are in each group."""
    units = rng.permutation(np.repeat(np.arange(len(copies)), copies))
    groups = np.arange(len(units)) % _MOST_GROUPS
    shape = (_MOST_GROUPS, len(copies))
    return sparse.csr_array((np.ones(len(units)), (groups, units)), shape=shape)
