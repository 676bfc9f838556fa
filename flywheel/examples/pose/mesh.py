"""Reads, checks and measures the mesh of a part.

A mesh is a closed surface in metres, faces turned outwards. A broken one is refused and not
repaired: a person who reads the message does that better.

The distance from anywhere to the nearest of a fixed set of points is exact and fast. The points are
sorted into a balanced tree of tight boxes, once. A query begins where the one before it ended, so it
is fast when neighbours in the array are neighbours in space, as in `Nearest.points`; in any other order
it is as exact, and a few times slower.
"""

from __future__ import annotations

import struct
from pathlib import Path

import numba
import numpy as np
import trimesh
from scipy.spatial import ConvexHull
from scipy.spatial.distance import cdist

from flywheel.errors import SettingsError
from flywheel.records import Array

_LEAF = 32
"""points that are searched one after the other, a power of two"""

# Sums may be taken in any order, which changes the last digit and lets a leaf use vector units.
# Nothing here is NaN or infinite: points and queries are checked.
_FAST = {"nnan", "nsz", "reassoc", "contract"}


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
        self._boxes = _boxes(points[order], num_levels)
        leaves = points[order].reshape(-1, _LEAF, 3)
        self._leaves = np.ascontiguousarray(leaves.swapaxes(1, 2))  # (leaves, 3, _LEAF)

    def distances(self, queries: Array) -> Array:
        """Queries (..., 3) -> (...), distance to the nearest point, in float64.

        Raises:
            ValueError: a query is not finite.
        """
        flat = np.ascontiguousarray(queries, dtype=np.float64).reshape(-1, 3)
        if not np.isfinite(flat).all():
            raise ValueError(f"{len(flat)} queries, not all of them finite; leave those out")
        found: Array = _search(flat, self._leaves, self._boxes)
        return found.reshape(np.shape(queries)[:-1])


def _halved(points: Array, num_levels: int) -> Array:
    """Indices of points in the tree's order: every block is halved along its widest axis.

    All leaves are of one size, so a few points come more than once; the nearest does not change.
    """
    order = np.arange(_LEAF << num_levels) % len(points)
    # Halved on below the leaves, down to single points, so that neighbours follow one another.
    for level in range(num_levels + _LEAF.bit_length() - 1):
        blocks = order.reshape(1 << level, -1)
        places = points[blocks]  # (blocks, size, 3)
        widest = np.ptp(places, axis=1).argmax(axis=1)
        along = np.take_along_axis(places, widest[:, None, None], axis=2)[..., 0]
        order = np.take_along_axis(blocks, along.argsort(axis=1, kind="stable"), axis=1).ravel()
    return order


def _boxes(points: Array, num_levels: int) -> Array:
    """(nodes, 6), low and high corner of every node; node k has the children 2k + 1 and 2k + 2."""
    levels = [points.reshape(1 << level, -1, 3) for level in range(num_levels + 1)]
    return np.concatenate([np.hstack([level.min(axis=1), level.max(axis=1)]) for level in levels])


@numba.njit(cache=True, fastmath=_FAST)
def _search(queries: Array, leaves: Array, boxes: Array) -> Array:
    """(Q,), distance of each query to the nearest point.

    It looks first into the leaf where the query before it ended, then into the other child of
    each node on the way up to the root, as far as that is near enough.
    """
    num_inner = len(boxes) // 2
    found = np.empty(len(queries))
    waiting, gaps = np.empty(64, dtype=np.int64), np.empty(64)
    leaf = num_inner
    for number in range(len(queries)):
        x, y, z = queries[number, 0], queries[number, 1], queries[number, 2]
        best = _least(leaves[leaf - num_inner], x, y, z)
        climbed = leaf
        while climbed > 0:
            waiting[0] = climbed + 1 if climbed % 2 else climbed - 1
            gaps[0] = _gap(boxes[waiting[0]], x, y, z)
            climbed = (climbed - 1) // 2
            size = 1
            while size > 0:
                size -= 1
                node = waiting[size]
                if gaps[size] >= best:
                    continue
                if node < num_inner:
                    child = 2 * node + 1
                    first, second = _gap(boxes[child], x, y, z), _gap(boxes[child + 1], x, y, z)
                    is_first = first <= second
                    # The nearer child goes on top, so it is the next one to be looked into.
                    waiting[size], gaps[size] = child + is_first, max(first, second)
                    waiting[size + 1], gaps[size + 1] = child + 1 - is_first, min(first, second)
                    size += 2
                    continue
                least = _least(leaves[node - num_inner], x, y, z)
                if least < best:
                    best, leaf = least, node
        found[number] = np.sqrt(best)
    return found


@numba.njit(cache=True, fastmath=_FAST)
def _least(points: Array, x: float, y: float, z: float) -> float:
    """Squared distance to the nearest of points (3, _LEAF)."""
    least: float = (points[0, 0] - x) ** 2 + (points[1, 0] - y) ** 2 + (points[2, 0] - z) ** 2
    for place in range(1, _LEAF):
        dx, dy, dz = points[0, place] - x, points[1, place] - y, points[2, place] - z
        least = min(least, dx * dx + dy * dy + dz * dz)
    return least


@numba.njit(cache=True, fastmath=_FAST)
def _gap(box: Array, x: float, y: float, z: float) -> float:
    """Squared distance to a box (6,); 0 inside."""
    dx = max(box[0] - x, x - box[3], 0.0)
    dy = max(box[1] - y, y - box[4], 0.0)
    dz = max(box[2] - z, z - box[5], 0.0)
    squared: float = dx * dx + dy * dy + dz * dz
    return squared


_MOST_M = 2.0
_LEAST_M = 0.005
_SEED = 20190301
_DENSITY = 10
_SHARP_DEG = 20.0
_CHUNK = 512
_FLAT = 1e-9
# What trimesh's readers raise on files that are not what their suffix says.
_UNREADABLE = (OSError, ValueError, TypeError, LookupError, AttributeError, struct.error)


def read_mesh(path: Path) -> trimesh.Trimesh:
    """The mesh of a .ply or .obj file, equal vertices merged.

    Raises:
        SettingsError: it is missing, unreadable, empty, not closed, or not in metres.
    """
    mesh = _load(path)
    diameter_m = diameter_of(mesh.vertices)
    _check_size(path, diameter_m)
    if not mesh.is_watertight:
        num_open = int((np.unique(mesh.edges_unique_inverse, return_counts=True)[1] != 2).sum())
        raise SettingsError(
            f"{path}: its surface is not closed: {num_open} of {len(mesh.edges_unique)} edges do "
            "not join exactly two faces; fill the holes, or export the solid again"
        )
    volume = _volume(mesh)
    if not mesh.is_winding_consistent or abs(volume) < _FLAT * diameter_m**3:
        raise SettingsError(
            f"{path}: its {len(mesh.faces)} faces do not all look outwards, so it encloses no "
            "volume; let the modeller recalculate the normals"
        )
    if volume < 0.0:
        mesh.invert()
    return mesh


def diameter_of(vertices: Array) -> float:
    """The largest distance of two vertices (V, 3), metres; the diameter of the BOP benchmark."""
    # QJ lets flat and straight ones pass as well.
    corners = vertices[ConvexHull(vertices, qhull_options="QJ").vertices]
    chunks = [corners[start : start + _CHUNK] for start in range(0, len(corners), _CHUNK)]
    return max(float(cdist(chunk, corners).max()) for chunk in chunks)


def surface_points(mesh: trimesh.Trimesh, count: int) -> Array:
    """(count, 3) points spread evenly over the surface, the same for the same mesh.

    Formula: of ten times as many points drawn uniformly, each next one is the farthest from
    those that are taken.
    Source: Eldar, Lindenbaum, Porat and Zeevi (1997), The farthest point strategy.
    """
    drawn = draw_points(mesh, count * _DENSITY)
    x, y, z = (np.ascontiguousarray(column) for column in drawn.T)
    chosen = np.zeros(count, dtype=np.intp)
    gaps = np.full(len(drawn), np.inf)
    for place in range(1, count):
        last = chosen[place - 1]
        gaps = np.minimum(gaps, (x - x[last]) ** 2 + (y - y[last]) ** 2 + (z - z[last]) ** 2)
        chosen[place] = gaps.argmax()
    points: Array = drawn[chosen]
    return points


def draw_points(mesh: trimesh.Trimesh, count: int) -> Array:
    """(count, 3) points drawn uniformly from the surface, with a fixed seed."""
    rng = np.random.default_rng(_SEED)
    faces = rng.choice(len(mesh.faces), size=count, p=mesh.area_faces / mesh.area)
    along = rng.random((2, count, 1))
    along = np.where(along.sum(axis=0) > 1.0, 1.0 - along, along)  # back into the triangle
    corner, *others = np.moveaxis(mesh.triangles[faces], 1, 0)
    points: Array = corner + along[0] * (others[0] - corner) + along[1] * (others[1] - corner)
    return points


def feature_edges(mesh: trimesh.Trimesh) -> Array:
    """(E, 2, 3), the ends of every edge where two faces meet at more than 20 degrees; each once."""
    sharp = np.degrees(mesh.face_adjacency_angles) > _SHARP_DEG
    edges: Array = np.asarray(mesh.vertices)[mesh.face_adjacency_edges[sharp]]
    return edges


def _load(path: Path) -> trimesh.Trimesh:
    kind = path.suffix.lower().removeprefix(".")
    try:
        with path.open("rb") as file:
            found = trimesh.load_mesh(file, file_type=kind, process=False)
            vertices, faces = np.asarray(found.vertices), np.asarray(found.faces)
    except FileNotFoundError as error:
        raise SettingsError(f"{path}: there is no such mesh; put it beside part.toml") from error
    except _UNREADABLE as error:
        raise SettingsError(
            f"{path}: cannot be read as a .{kind} mesh ({error}); export it again"
        ) from error
    if len(faces) == 0:
        raise SettingsError(
            f"{path}: it has {len(faces)} faces, only points; export a mesh of triangles"
        )
    if faces.min() < 0 or faces.max() >= len(vertices):
        raise SettingsError(
            f"{path}: a face names vertex {faces.max()} of {len(vertices)}; export it again"
        )
    if not np.isfinite(vertices).all():
        raise SettingsError(f"{path}: a vertex is not finite; export it again")
    # Built anew, so that equal vertices with different textures or normals are merged as well.
    mesh = trimesh.Trimesh(vertices=vertices, faces=faces, process=True)
    first, second, third = mesh.faces.T
    mesh.update_faces((first != second) & (second != third) & (third != first))
    mesh.remove_unreferenced_vertices()
    if len(mesh.vertices) < 4:
        raise SettingsError(
            f"{path}: {len(mesh.vertices)} different vertices; a solid has at least 4, export it again"
        )
    return mesh


def _volume(mesh: trimesh.Trimesh) -> float:
    """Signed, m3: below 0 when the faces look inwards; trimesh's own divides by 0 when it is flat."""
    first, second, third = np.moveaxis(mesh.triangles - mesh.vertices[0], 1, 0)
    return float((first * np.cross(second, third)).sum() / 6.0)


def _check_size(path: Path, diameter_m: float) -> None:
    if diameter_m > _MOST_M:
        raise SettingsError(
            f"{path}: it is {diameter_m:.4g} m across, at most {_MOST_M:g} m are allowed; "
            "it looks like millimetres: scale by 0.001"
        )
    if diameter_m < _LEAST_M:
        raise SettingsError(
            f"{path}: it is {1000 * diameter_m:.3g} mm across, at least {1000 * _LEAST_M:g} mm are "
            "needed; vertices are in metres: scale it up"
        )
