"""The distance from anywhere to the nearest of a fixed set of points, exactly and fast.

The points are sorted into a balanced tree of tight boxes, once. A query begins where the one
before it ended, so it is fast when neighbours in the array are neighbours in space, as in
`Nearest.points`; in any other order it is as exact, and a few times slower.
Refuses to know what the points are, and to change them.
"""

from __future__ import annotations

import numba
import numpy as np

from flywheel.records import Array

_LEAF = 16
"""points that are looked through one after the other"""


class Nearest:
    """An index over points (N, 3), N >= 1, which never change."""

    def __init__(self, points: Array) -> None:
        points = np.asarray(points, dtype=np.float64)
        if points.ndim != 2 or points.shape[1] != 3 or not len(points):
            raise ValueError(f"points of shape {points.shape}; they must be (N, 3) with N >= 1")
        if not np.isfinite(points).all():
            raise ValueError(f"{len(points)} points, not all of them finite; leave those out")
        num_levels = max(0, int(np.ceil(np.log2(len(points) / _LEAF))))
        order = _halved(points, num_levels)
        # Sorted: neighbours in this array are neighbours in space.
        self.points: Array = points[order[np.sort(np.unique(order, return_index=True)[1])]]
        self._points = points[order]
        self._boxes = _boxes(self._points, num_levels)

    def distances(self, queries: Array) -> Array:
        """Queries (..., 3) -> (...), distance to the nearest point, in float64."""
        flat = np.ascontiguousarray(queries, dtype=np.float64).reshape(-1, 3)
        found: Array = _search(flat, self._points, self._boxes)
        return found.reshape(np.shape(queries)[:-1])


def _halved(points: Array, num_levels: int) -> Array:
    """Indices of points in the tree's order: every block is halved along its widest axis.

    All leaves are of one size, so a few points come more than once; the nearest does not change.
    """
    order = np.arange(_LEAF << num_levels) % len(points)
    for level in range(num_levels):
        blocks = order.reshape(1 << level, -1)
        places = points[blocks]  # (blocks, size, 3)
        widest = np.ptp(places, axis=1).argmax(axis=1)
        along = np.take_along_axis(places, widest[:, None, None], axis=2)[..., 0]
        order = np.take_along_axis(blocks, along.argsort(axis=1, kind="stable"), axis=1).ravel()
    return order


def _boxes(points: Array, num_levels: int) -> Array:
    """(nodes, 6), low and high corner of every node; node k has the children 2k + 1 and 2k + 2."""
    levels = [points.reshape(1 << level, -1, 3) for level in range(num_levels + 1)]
    return np.concatenate([np.hstack([one.min(axis=1), one.max(axis=1)]) for one in levels])


@numba.njit(cache=True)
def _search(queries: Array, points: Array, boxes: Array) -> Array:
    """(Q,), distance of each query to the nearest point.

    It looks first into the leaf where the query before it ended, then into the other child of
    each node on the way up to the root, as far as that is near enough.
    """
    num_inner = len(boxes) // 2
    found = np.empty(len(queries))
    waiting, gaps = np.empty(64, dtype=np.int64), np.empty(64)
    leaf = num_inner
    for number in range(len(queries)):
        query = queries[number]
        best = _least(points, leaf - num_inner, query)
        climbed = leaf
        while climbed > 0:
            waiting[0] = climbed + 1 if climbed % 2 else climbed - 1
            gaps[0] = _gap(boxes, waiting[0], query)
            climbed = (climbed - 1) // 2
            size = 1
            while size > 0:
                size -= 1
                node = waiting[size]
                if gaps[size] >= best:
                    continue
                if node < num_inner:
                    child = 2 * node + 1
                    first, second = _gap(boxes, child, query), _gap(boxes, child + 1, query)
                    is_first = first <= second
                    # The nearer child goes on top, so it is the next one to be looked into.
                    waiting[size], gaps[size] = child + is_first, max(first, second)
                    waiting[size + 1], gaps[size + 1] = child + 1 - is_first, min(first, second)
                    size += 2
                    continue
                least = _least(points, node - num_inner, query)
                if least < best:
                    best, leaf = least, node
        found[number] = np.sqrt(best)
    return found


@numba.njit(cache=True)
def _least(points: Array, leaf: int, query: Array) -> float:
    """Squared distance to the nearest point of a leaf."""
    least = np.inf
    for place in range(leaf * _LEAF, (leaf + 1) * _LEAF):
        dx = points[place, 0] - query[0]
        dy = points[place, 1] - query[1]
        dz = points[place, 2] - query[2]
        least = min(least, dx * dx + dy * dy + dz * dz)
    return least


@numba.njit(cache=True)
def _gap(boxes: Array, node: int, query: Array) -> float:
    """Squared distance to the box of a node; 0 inside."""
    squared = 0.0
    for axis in range(3):
        outside = max(boxes[node, axis] - query[axis], query[axis] - boxes[node, axis + 3])
        if outside > 0.0:
            squared += outside * outside
    return squared
