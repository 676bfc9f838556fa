"""Finds near-duplicates between the splits: the same part photographed twice, a row with a jitter.

What two inputs have in common says nothing: all pictures of a fixed camera show its background,
and all rows of a table have one column near 1,000. So inputs are compared by what distinguishes
them from the project's mean, and a pair counts as a copy only if it is much closer than its own
neighbourhood explains. Two views are compared, and a copy in either one is a copy: `shape` (each
input less its own mean, of length 1, so that brightness and contrast do not count) suits pictures
and word counts, `columns` (each number in units of its spread) suits tables. Whole numbers, which
may be ids of words, count by their rank: most ids are small, and small ones are not alike.

The cost is one matrix product of test rows with all rows; memory is 4 kB a row.
"""

from __future__ import annotations

import hashlib
import itertools
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import scipy

from flywheel.records import Array, DatasetRow, Split

Read = Callable[[Sequence[str]], Array]
"""sample ids -> (N, D) flattened model inputs"""

_ROWS_READ = 256
_ROWS_OF_STATISTICS = 2_000
"""rows from which means and spreads are taken; more would not change them by 1 %"""
_SKETCH = 512
"""longer inputs are folded to this many numbers, which keeps distances within about 3 %"""
_CLIP = 5.0
"""spreads: a column that is rarely different from zero must not outweigh all others"""
_MOST_NEIGHBOURS = 40
"""those whose distances say how dense the project is around a row"""
_LONGEST_BURST = 60
"""more samples, or a quarter of all, that are nearly equal are a kind of sample, such as good parts"""
_BURST_DISTANCE = 0.3
"""within a burst, in units of the median distance from a sample to its nearest"""
_FEWEST_ROWS = 20
"""below, there is no neighbourhood to compare with, and only equal inputs are copies"""
_CHANCE = 1e-3
"""chance that an independent sample looks like a copy, in a neighbourhood of even density"""
_ROWS_OF_DIMENSION = 1_000
_EQUAL_TESTS = 100
"""test rows of one input that each training row of it is paired with: some may leave the test set"""
_NUMBERS_OF_BOUND = 4_000
"""distances of a row, of which the k-th bounds what may be among its k smallest"""
_BLOCK_NUMBERS = 16_000_000
"""distances in memory at the same time, 64 MB"""


@dataclass(frozen=True, kw_only=True, slots=True)
class Copy:
    """A test sample and a training sample that are near-duplicates."""

    test_id: str
    train_id: str
    similarity: float
    """1: equal; 0: as different as two samples of the project are on average"""


def copies_between(
    rows: Sequence[DatasetRow],
    groups: Mapping[str, str],
    read: Read,
    numbers: Read,
    near_duplicate: float,
) -> list[Copy]:
    """Return the near-duplicates of different groups.

    Rows of a table that say the same in words are near each other and far from all others, as copies
    are: they are copies only if their numbers are those of copies too.
    """
    copies = find_copies(rows, groups, read, near_duplicate)
    unequal = [copy for copy in copies if copy.similarity < 1]
    if not unequal or not numbers([unequal[0].test_id, unequal[0].train_id]).any():
        return copies
    near = find_copies(rows, groups, numbers, near_duplicate)
    pairs = {(copy.test_id, copy.train_id) for copy in near}
    return [
        copy for copy in copies if copy.similarity == 1 or (copy.test_id, copy.train_id) in pairs
    ]


def find_copies(
    rows: Sequence[DatasetRow], groups: Mapping[str, str], read: Read, near_duplicate: float
) -> list[Copy]:
    """Return the near-duplicates between test and training rows of different groups.

    Formula: for a test row with distances r_1 <= ... <= r_k to its k nearest rows of other groups,
    row j is a copy if its similarity 1 - r_j^2 / (|a|^2 + |b|^2) is at least `near_duplicate` and
    (r_j / r_k)^m < c / (k - 1), c = 0.001. In a neighbourhood of even density and m dimensions,
    (r / r_k)^m of each of the k - 1 others is uniform in 0..1, so that c is the chance that any of
    them is that near. m follows from the outer half of the neighbours, where the copies are not:
    log(r_k / r_h) has the mean (psi(k) - psi(h)) / m, h = k / 2; of the row's own and the median row's m
    the smaller counts. Rows that are nearer than 0.3 of the median distance to a nearest row are copies
    too where more than k / 4, and 5, and at most 60 and less than a quarter of all are: a burst, of
    which no row stands out among its own.
    Source: Levina and Bickel, Maximum Likelihood Estimation of Intrinsic Dimension, 2004.

    Args:
        rows: labeled samples, each sample once, in any order.
        groups: sample id -> group.
        read: returns the flattened model inputs of some samples.
        near_duplicate: least similarity; 1: only equal inputs, 0: nothing is a copy. Equal inputs
            are copies in any neighbourhood.
    """
    # Ids are hashes: any part of the rows is a random part.
    rows = sorted(rows, key=lambda row: row.sample_id)
    is_test = np.array([row.split is Split.TEST for row in rows], dtype=bool)
    if near_duplicate == 0 or is_test.all() or not is_test.any():
        return []
    ids = [row.sample_id for row in rows]
    _, numbers = np.unique([groups[key] for key in ids], return_inverse=True)
    views, inputs = _views(ids, read)
    found = _equal(rows, inputs)
    for view in views:
        for test, train, similarity in _near(view, numbers, is_test, near_duplicate):
            if inputs[test] is not None and inputs[train] is not None:
                found[test, train] = max(similarity, found.get((test, train), 0.0))
    return [
        Copy(test_id=ids[test], train_id=ids[train], similarity=similarity)
        for (test, train), similarity in sorted(found.items())
    ]


def _equal(
    rows: Sequence[DatasetRow], inputs: Sequence[bytes | None]
) -> dict[tuple[int, int], float]:
    """Return (test row, training row) -> 1.0 for equal inputs, enough pairs to keep them apart."""
    places: dict[bytes, list[int]] = defaultdict(list)
    for place, digest in enumerate(inputs):
        if digest is not None:
            places[digest].append(place)
    found = {}
    for same in places.values():
        tests = [place for place in same if rows[place].split is Split.TEST]
        trains = [place for place in same if rows[place].split is Split.TRAIN]
        start = [place for place in trains if rows[place].origin == "start"]
        if start:  # no test row stays, so that the other training rows may
            found.update(dict.fromkeys(((test, start[0]) for test in tests), 1.0))
        else:
            some = tests[:_EQUAL_TESTS]
            found.update(dict.fromkeys(itertools.product(some, trains), 1.0))
    return found


def _views(ids: Sequence[str], read: Read) -> tuple[tuple[Array, Array], list[bytes | None]]:
    """Return (N, 512) float32 of both views, and the digest of each input.

    It is None for an input without any finite number, which is like no other.
    """
    step = -(-len(ids) // _ROWS_OF_STATISTICS)
    sampled = _joined(list(_blocks(ids[::step], read)))
    size = sampled.shape[1]
    is_finite = np.isfinite(sampled)
    counts = np.maximum(is_finite.sum(axis=0), 1)
    mean = np.where(is_finite, sampled, 0.0).sum(axis=0) / counts
    filled = np.where(is_finite, sampled, mean)
    mean_shape = _shapes(filled).mean(axis=0)
    ladders = _ladders(filled)
    levels = _levels(filled, ladders)
    middle, spread = levels.mean(axis=0), levels.std(axis=0)
    spread[spread <= 1e-9 * np.abs(levels).max(axis=0)] = np.inf  # constant: the rest is rounding
    shapes, columns, digests = list[Array](), list[Array](), list[bytes | None]()
    for part in _blocks(ids, read):
        block = _joined([part], size)
        is_finite = np.isfinite(block)
        filled = np.where(is_finite, block, mean)
        apart = _shapes(filled) - mean_shape
        # Where all are of one shape, the rest is rounding.
        apart[np.linalg.norm(apart, axis=1) <= 1e-9] = 0.0
        shapes.append(_fold(apart))
        levels = _levels(filled, ladders)
        columns.append(_fold(np.clip((levels - middle) / spread, -_CLIP, _CLIP)))
        plain = block + 0.0  # no -0.0
        digests += [
            hashlib.blake2b(row.tobytes(), digest_size=16).digest() if finite.any() else None
            for row, finite in zip(plain, is_finite, strict=True)
        ]
    return (np.concatenate(shapes), np.concatenate(columns)), digests


def _ladders(rows: Array) -> dict[int, tuple[Array, Array]]:
    """Return the values and their mean ranks, 0..1, of the columns of whole numbers; none of long rows."""
    if rows.shape[1] > _SKETCH:
        return {}
    found = {}
    for place in np.flatnonzero((rows == np.round(rows)).all(axis=0)).tolist():
        values, counts = np.unique(rows[:, place], return_counts=True)
        found[place] = (values, (counts.cumsum() - counts / 2) / len(rows))
    return found


def _levels(rows: Array, ladders: Mapping[int, tuple[Array, Array]]) -> Array:
    """Return (N, D) the rows with ranks in place of whole numbers."""
    levels = rows.copy() if ladders else rows
    for place, (values, ranks) in ladders.items():
        levels[:, place] = np.interp(rows[:, place], values, ranks)
    return levels


def _blocks(ids: Sequence[str], read: Read) -> Iterator[Array]:
    for start in range(0, len(ids), _ROWS_READ):
        yield read(ids[start : start + _ROWS_READ]).astype(np.float64)


def _joined(blocks: Sequence[Array], size: int | None = None) -> Array:
    """Return (N, D) of blocks that a task may have padded to different lengths."""
    size = max(block.shape[1] for block in blocks) if size is None else size
    joined = np.zeros((sum(map(len, blocks)), size))
    start = 0
    for block in blocks:
        joined[start : start + len(block), : block.shape[1]] = block[:, :size]
        start += len(block)
    return joined


def _shapes(inputs: Array) -> Array:
    """Return (N, D) inputs of mean 0 and length 1; flat ones are 0."""
    before = np.linalg.norm(inputs, axis=1, keepdims=True)
    centred = inputs - inputs.mean(axis=1, keepdims=True)
    length = np.linalg.norm(centred, axis=1, keepdims=True)
    is_flat = length <= 1e-6 * before  # the rest is rounding
    shaped: Array = np.divide(centred, length, out=np.zeros_like(centred), where=~is_flat)
    return shaped


def _fold(vectors: Array) -> Array:
    """Return (N, 512) sums of numbers with random signs, which keeps distances (count sketch)."""
    size = vectors.shape[1]
    if size <= _SKETCH:
        return vectors.astype(np.float32)
    rng = np.random.default_rng(0)
    order, signs = rng.permutation(size), rng.choice([-1.0, 1.0], size)
    mixed = np.zeros((len(vectors), -(-size // _SKETCH) * _SKETCH))
    mixed[:, :size] = (vectors * signs)[:, order]
    folded: Array = mixed.reshape(len(vectors), -1, _SKETCH).sum(axis=1)
    return folded.astype(np.float32)


def _near(
    view: Array, groups: Array, is_test: Array, near_duplicate: float
) -> list[tuple[int, int, float]]:
    """Return (test row, training row, similarity) of the copies in one view."""
    size = len(view)
    if size < _FEWEST_ROWS:
        return []
    # Training rows help to measure the dimension where test rows are few.
    asked = np.union1d(np.flatnonzero(is_test), np.arange(min(size, _ROWS_OF_DIMENSION)))
    k = min(_MOST_NEIGHBOURS, max(5, size // 10))
    longest = max(k, min(_LONGEST_BURST, size // 4 - 2))  # beside the row itself
    nearest, distances = _neighbours(view, groups, asked, min(longest + 1, size - 1))
    squares = (view.astype(np.float64) ** 2).sum(axis=1)
    together = squares[asked][:, None] + squares[nearest]
    is_known = (together > 0) & np.isfinite(distances)
    ratios = np.divide(distances**2, together, out=np.zeros_like(together), where=is_known)
    similarity = np.round(1.0 - ratios, 6)
    limits = np.maximum(_limits(distances[:, :k]), _burst_limits(distances, fewest=max(5, k // 4)))
    is_near = (distances < limits[:, None]) & (similarity >= near_duplicate)
    is_near &= is_test[asked][:, None] & ~is_test[nearest]
    return [
        (int(asked[row]), int(nearest[row, place]), float(similarity[row, place]))
        for row, place in zip(*np.nonzero(is_near), strict=True)
    ]


def _limits(distances: Array) -> Array:
    """Return (N,) the distance below which a neighbour is nearer than an independent sample may be."""
    k = distances.shape[1]
    half = k // 2
    limits = np.zeros(len(distances))
    # 0: as many as k are equal. Infinite: fewer than k rows are of other groups.
    is_measured = np.isfinite(distances[:, -1]) & (distances[:, -1] > 0)
    if not is_measured.any():
        return limits
    outer, inner = distances[is_measured, -1], distances[is_measured, half - 1]
    widths = np.log(outer / np.maximum(inner, 1e-30))
    middle = np.median(widths)  # of a single row the width is within 25 %
    widths = np.maximum(middle, (widths + middle) / 2)
    per_width = np.log((k - 1) / _CHANCE) / (scipy.special.digamma(k) - scipy.special.digamma(half))
    limits[is_measured] = outer * np.exp(-widths * per_width)
    return limits


def _burst_limits(distances: Array, fewest: int) -> Array:
    """Return (N,) the distance below which a neighbour is of the same burst; 0: it is of none.

    A burst fills the whole neighbourhood of its own samples, so that none of them stands out. It is
    much denser than the project is elsewhere, and ends within a number of samples.
    """
    known = distances[np.isfinite(distances[:, 0]), 0]
    limit = _BURST_DISTANCE * float(np.median(known)) if len(known) else 0.0
    is_burst = (distances[:, fewest] < limit) & (distances[:, -1] > limit)
    return np.where(is_burst, limit, 0.0)


def _neighbours(view: Array, groups: Array, asked: Array, k: int) -> tuple[Array, Array]:
    """Return (N, k) rows of other groups nearest to the asked rows, nearest first, and distances.

    Where fewer exist, the distance is infinite.
    """
    squares = (view**2).sum(axis=1)
    rows, found = list[Array](), list[Array]()
    size = max(1, _BLOCK_NUMBERS // len(view))
    for start in range(0, len(asked), size):
        block = asked[start : start + size]
        products = (-2.0 * view[block]) @ view.T
        products += squares[block][:, None] + squares[None]
        is_same = groups[block][:, None] == groups[None]
        products[is_same] = np.inf
        near = np.stack([_smallest(row, k) for row in products])
        exact = np.stack(  # products of nearly equal rows are rounding errors
            [
                np.linalg.norm(view[row] - view[others], axis=1)
                for row, others in zip(block, near, strict=True)
            ]
        ).astype(np.float64)
        exact[np.take_along_axis(is_same, near, axis=1)] = np.inf
        order = np.argsort(exact, axis=1, kind="stable")
        rows.append(np.take_along_axis(near, order, axis=1))
        found.append(np.take_along_axis(exact, order, axis=1))
    return np.concatenate(rows), np.concatenate(found)


def _smallest(numbers: Array, k: int) -> Array:
    """Return (k,) places of the smallest numbers, in any order."""
    some = numbers[:: max(1, len(numbers) // _NUMBERS_OF_BOUND)]
    bound = np.partition(some, k - 1)[k - 1]  # at least that of all
    places = np.flatnonzero(numbers <= bound)
    found: Array = places[np.argpartition(numbers[places], k - 1)[:k]]
    return found
