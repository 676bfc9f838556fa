"""Strategies that choose which candidates annotators are asked about; each reads a Pool.

A strategy never sees a label. Labeled and queued samples are its first centres, so that a batch does
not repeat what is known. All distances are between embeddings of unit length, which `unit` makes.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from flywheel.errors import UserError
from flywheel.faults import describe_fault
from flywheel.records import Array
from flywheel.task import load_function

_BLOCK = 4_096
"""rows whose distances are in memory at once"""
_AT_ONCE = 32
"""picks of a pass of k-means++ when many are chosen"""
_FEW = 200
"""picks up to which each has a pass of its own"""
_COPY = 1e-6
"""squared distance below which a row is a copy: it teaches what the other one does"""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Pool:
    """N candidates in D dimensions, and what they are compared with; all rows have unit length."""

    embeddings: Array
    """(N, D) float32"""
    strength: Array
    """(N,) in 0..1, how suspect each is; 0 where nothing is held against it"""
    doubt: Array
    """(N,) in 0..1, one minus the confidence of the model that serves"""
    known: Array
    """(M, D) float32, what is labeled or waits for a label"""
    recent: Array
    """(R, D) float32, an even sample of recent production"""
    weight: Array
    """(R,) in 0..1, how suspect each of these is"""


EMPTY = Pool(
    embeddings=np.zeros((0, 0), dtype=np.float32),
    strength=np.zeros(0),
    doubt=np.zeros(0),
    known=np.zeros((0, 0), dtype=np.float32),
    recent=np.zeros((0, 0), dtype=np.float32),
    weight=np.zeros(0),
)
Strategy = Callable[[Pool, int, np.random.Generator], Sequence[int]]
"""pool, number wanted, generator of the draw -> rows of the pool, each at most once"""


def unit(embeddings: Array) -> Array:
    """(N, D) -> (N, D) float32 rows of length 1; a row without a direction or that is not finite is 0."""
    rows = np.nan_to_num(np.asarray(embeddings, dtype=np.float32), posinf=0.0, neginf=0.0)
    length = np.linalg.norm(rows, axis=1, keepdims=True)
    found: Array = np.divide(rows, length, out=np.zeros_like(rows), where=length > 0)
    return found


def random(pool: Pool, size: int, rng: np.random.Generator) -> Sequence[int]:
    """Rows drawn evenly: what every other strategy must beat."""
    number = len(pool.strength)
    return [int(row) for row in rng.choice(number, min(size, number), replace=False)]


def diverse(pool: Pool, size: int, rng: np.random.Generator) -> Sequence[int]:
    """Suspect rows, far from each other and from what is known; then others that are in doubt.

    k-means++ seeding: a row is drawn with probability proportional to its strength times the squared
    distance to the nearest centre. When no suspect is left but copies of what is chosen or known,
    the doubt stands in place of the strength: of production that is mostly right, few rows are
    suspect, and a budget that is not spent teaches nothing. More than 200 rows are drawn 32 at a pass.
    Source: Arthur & Vassilvitskii 2007; as in BADGE (Ash et al., arXiv 1906.03671).
    Departures: the strength stands in place of the gradient's length, and known samples are centres.
    """
    size = min(size, len(pool.strength))
    nearest = _nearest(pool.embeddings, pool.known)
    chosen: list[int] = []
    while len(chosen) < size:
        weight = _worth(pool, nearest, chosen)
        wanted = 1 if size <= _FEW else min(_AT_ONCE, size - len(chosen))
        drawn = _draw(weight, wanted, rng)
        chosen += drawn
        nearest = np.minimum(nearest, _nearest(pool.embeddings, pool.embeddings[drawn]))
    return chosen


def _worth(pool: Pool, nearest: Array, chosen: Sequence[int]) -> Array:
    """(N,) chances of the next draw: of the first kind of row that there still is."""
    apart = np.where(nearest > _COPY, nearest, 0.0)
    for weight in (pool.strength * apart, pool.doubt * apart, apart):
        weight[chosen] = 0.0
        if weight.any():
            return weight
    copies = np.ones(len(nearest))  # only these are left
    copies[chosen] = 0.0
    return copies


def coverage(pool: Pool, size: int, _rng: np.random.Generator) -> Sequence[int]:
    """Rows that together lie closest to what is suspect in recent production.

    Greedy maximum of sum_i w_i max_j k(i, j), k(i, j) = exp(-|i - j|^2 / s^2), over recent
    production i with its weights w, where j are the known and the chosen samples; s^2 is twice the
    median squared distance of a known sample to its nearest neighbour.
    Source: uncertainty herding, Bae, Ghafourian et al., arXiv 2412.20644.
    Departures: the sum runs over recent production and not over the pool, and s is the median.
    """
    number = len(pool.strength)
    if number <= size or not len(pool.recent):
        return list(range(min(number, size)))
    scale = _scale(pool.known if len(pool.known) > 1 else pool.recent)
    weight = pool.weight if pool.weight.sum() > 0 else np.ones(len(pool.recent))
    kernel = _kernel(pool.recent, pool.embeddings, scale)
    covered = _covered(pool.recent, pool.known, scale)
    # Gains only shrink, so a stale one is an upper bound: most rows are never looked at again.
    gains = [(-float(gain), row) for row, gain in enumerate(_gains(kernel, covered, weight))]
    heapq.heapify(gains)
    chosen: list[int] = []
    while len(chosen) < size:
        stale, row = heapq.heappop(gains)
        gain = float(weight @ np.maximum(kernel[:, row] - covered, 0.0))
        if gains and gain < -gains[0][0] - 1e-12 * abs(stale):
            heapq.heappush(gains, (-gain, row))
            continue
        chosen.append(row)
        covered = np.maximum(covered, kernel[:, row])
    return chosen


def lcmd(pool: Pool, size: int, _rng: np.random.Generator) -> Sequence[int]:
    """Rows by largest cluster maximum distance: for regression, where confidence misleads.

    Each row belongs to its nearest centre. The cluster with the largest sum of squared distances
    gives its farthest row, which becomes a centre. Rows in nobody's neighbourhood are left out:
    those whose nearest recent sample is farther than for 99 % of the rows.
    Source: Holzmueller et al., arXiv 2203.09410, LCMD-TP.
    Departures: the embedding stands in place of gradient features; outliers are left out.
    """
    number = len(pool.strength)
    if number <= size:
        return list(range(number))
    centres = pool.known if len(pool.known) else pool.embeddings[:1]
    distance, owner = _nearest_of(pool.embeddings, centres)
    allowed: Array = np.ones(number, dtype=bool)
    if len(pool.recent):
        apart = _nearest(pool.embeddings, pool.recent)
        allowed = apart <= np.quantile(apart, 0.99)
    chosen: list[int] = []
    while len(chosen) < size:
        free = allowed.copy()
        free[chosen] = False
        if not free.any():
            left = np.setdiff1d(np.arange(number), chosen)
            return chosen + [int(row) for row in left[: size - len(chosen)]]
        sums = np.bincount(owner, weights=np.where(free, distance, 0.0))
        inside = free & (owner == int(np.argmax(sums)))
        if not inside.any():  # every free row is a copy of a centre
            inside = free
        row = int(np.argmax(np.where(inside, distance, -1.0)))
        chosen.append(row)
        moved = _nearest(pool.embeddings, pool.embeddings[[row]])
        closer = moved < distance
        owner[closer] = len(centres) + len(chosen) - 1
        distance = np.minimum(distance, moved)
    return chosen


STRATEGIES: Mapping[str, Strategy] = {
    "random": random,
    "diverse": diverse,
    "coverage": coverage,
    "lcmd": lcmd,
}


def find_strategy(name: str, directory: Path) -> Strategy:
    """The strategy of a setting: a built-in one, or the project's own `module:function`.

    What a project's own returns is checked at each call; rows that cannot be are an error.

    Raises:
        SettingsError: there is no such module or function.
    """
    if name in STRATEGIES:
        return STRATEGIES[name]
    return partial(_checked, load_function(name, directory), name, directory)


def _checked(
    own: Strategy, name: str, directory: Path, pool: Pool, size: int, rng: np.random.Generator
) -> Sequence[int]:
    """What a project's own strategy chooses.

    Raises:
        UserError: it raises, or returns a row that is not there, or one twice.
    """
    try:
        rows = [int(row) for row in own(pool, size, rng)]
    except Exception as error:
        fault = describe_fault(error, [directory])
        raise UserError(
            f"the strategy {name} raised {fault}. Fix it, or set select.strategy"
        ) from error
    wrong = [row for row in rows if not 0 <= row < len(pool.strength)]
    if wrong:
        raise UserError(
            f"the strategy {name} returned row {wrong[0]} of a pool of {len(pool.strength)}. "
            "Return rows from 0 to one less than that"
        )
    if len(set(rows)) < len(rows):
        raise UserError(f"the strategy {name} returned a row twice. Return each row at most once")
    return rows[:size]


def _draw(weight: Array, number: int, rng: np.random.Generator) -> list[int]:
    """Different rows, each with a chance in proportion to its weight; fewer where few have one."""
    total = np.cumsum(weight)
    rows = np.searchsorted(total, rng.random(number) * total[-1], side="right")
    return [int(row) for row in dict.fromkeys(np.minimum(rows, len(weight) - 1).tolist())]


def _nearest(rows: Array, centres: Array) -> Array:
    """(N,) squared distance to the nearest centre; 4, the largest there is, without centres."""
    return _nearest_of(rows, centres)[0]


def _nearest_of(rows: Array, centres: Array) -> tuple[Array, Array]:
    """(N,) squared distance to the nearest centre, and which one it is."""
    distance = np.full(len(rows), 4.0)
    owner = np.zeros(len(rows), dtype=np.int64)
    if not len(centres):
        return distance, owner
    for start in range(0, len(rows), _BLOCK):
        part = slice(start, start + _BLOCK)
        squares = _squared_distances(rows[part], centres)
        owner[part] = squares.argmin(axis=1)
        distance[part] = np.take_along_axis(squares, owner[part, None], axis=1)[:, 0]
    return distance, owner


def _squared_distances(rows: Array, centres: Array) -> Array:
    """(N, M) squared distances from cached norms: one matrix product."""
    squares = (rows**2).sum(axis=1)[:, None] + (centres**2).sum(axis=1)[None, :]
    squares -= 2.0 * rows @ centres.T
    found: Array = np.maximum(squares, 0.0)
    return found


def _scale(rows: Array) -> float:
    """Twice the median squared distance of a row to its nearest neighbour; 1 where all are copies."""
    squares = _squared_distances(rows[:_BLOCK], rows[:_BLOCK])
    np.fill_diagonal(squares, np.inf)
    return float(2.0 * np.median(squares.min(axis=1))) or 1.0


def _kernel(rows: Array, columns: Array, scale: float) -> Array:
    """(R, N) float32 similarities, column by column in memory, as the greedy search reads them."""
    kernel = np.empty((len(rows), len(columns)), dtype=np.float32, order="F")
    for start in range(0, len(columns), _BLOCK):
        part = slice(start, start + _BLOCK)
        kernel[:, part] = np.exp(_squared_distances(rows, columns[part]) / -scale)
    return kernel


def _covered(rows: Array, known: Array, scale: float) -> Array:
    """(R,) similarity to the nearest known sample; 0 without one."""
    if not len(known):
        return np.zeros(len(rows))
    return np.exp(_nearest(rows, known) / -scale)


def _gains(kernel: Array, covered: Array, weight: Array) -> Array:
    """(N,) what each column alone would add."""
    found = np.empty(kernel.shape[1])
    for start in range(0, kernel.shape[1], _BLOCK):
        part = slice(start, start + _BLOCK)
        found[part] = weight @ np.maximum(kernel[:, part] - covered[:, None], 0.0)
    return found
