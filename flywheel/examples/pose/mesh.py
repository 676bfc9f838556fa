"""Reads, checks and measures the mesh of a part.

A mesh is a closed surface in metres, faces turned outwards. A broken one is refused and not
repaired: a person who reads the message does that better.
"""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import trimesh
from scipy.spatial import ConvexHull
from scipy.spatial.distance import cdist

from flywheel.errors import SettingsError
from flywheel.records import Array

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
