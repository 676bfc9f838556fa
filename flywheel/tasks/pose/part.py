"""The part that a robot grasps, read from its part.toml and mesh, with all that poses need of it.

Everything is in the part's own frame, in metres. Refuses to know any picture of it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy.spatial.distance import cdist

from flywheel.errors import SettingsError
from flywheel.records import Array
from flywheel.tasks.pose.description import read_description
from flywheel.tasks.pose.mesh import (
    diameter_of,
    draw_points,
    feature_edges,
    read_mesh,
    surface_points,
)
from flywheel.tasks.pose.symmetry import check_symmetries, symmetry_rotations

EXAMPLE_PART = Path(__file__).parent / "parts" / "bracket.toml"

_NUM_POINTS = 1_000
_NUM_DENSE = 100_000
_LEAST_KEYPOINTS = 4
_LEAST_SPREAD_M = 0.001


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Part:
    """One part: V vertices, F faces, P points of its surface, S symmetries, E sharp edges."""

    name: str
    vertices: Array
    """(V, 3) float64, metres"""
    faces: Array
    """(F, 3) int32, vertices counter-clockwise as seen from outside"""
    keypoints: Mapping[str, Array]
    """name -> (3,) metres, in the order of part.toml; at least four, not on one line"""
    symmetries: Array
    """(S, 3, 3) rotations after which it looks the same, identity first"""
    points: Array
    """(P, 3), 1,000 points spread evenly over the surface"""
    diameter_m: float
    """largest distance of two vertices"""
    edges: Array
    """(E, 2, 3), both ends of every sharp edge, for wire-frames"""
    grip_axis: Array
    """(3,) unit vector along which the jaws close"""
    grip_clearance_cm: float
    """between each open jaw and the part"""


def load_part(path: Path) -> Part:
    """The part that a part.toml and the mesh beside it describe.

    Raises:
        SettingsError: one of them is missing or cannot be; the message names file and value.
    """
    description = read_description(path)
    mesh = read_mesh(path.parent / description.mesh)
    vertices = np.asarray(mesh.vertices, dtype=np.float64)
    diameter_m, points = diameter_of(vertices), surface_points(mesh, _NUM_POINTS)
    keypoints = {name: np.array(place) for name, place in description.keypoints.items()}
    _check_keypoints(path, keypoints, np.concatenate([vertices, points]), diameter_m)
    if description.symmetry:
        dense = draw_points(mesh, _NUM_DENSE)
        check_symmetries(description.symmetry, dense, diameter_m, str(path))
    grip_axis = np.array(description.gripper.axis)
    return Part(
        name=description.name,
        vertices=vertices,
        faces=np.asarray(mesh.faces, dtype=np.int32),
        keypoints=keypoints,
        symmetries=symmetry_rotations(description.symmetry, str(path)),
        points=points,
        diameter_m=diameter_m,
        edges=feature_edges(mesh),
        grip_axis=grip_axis / np.linalg.norm(grip_axis),
        grip_clearance_cm=description.gripper.clearance_cm,
    )


def _check_keypoints(
    path: Path, keypoints: Mapping[str, Array], surface: Array, diameter_m: float
) -> None:
    if len(keypoints) < _LEAST_KEYPOINTS:
        raise SettingsError(
            f"{path}: [keypoints] has {len(keypoints)}; a pose needs at least "
            f"{_LEAST_KEYPOINTS}: add corners that are easy to tell apart"
        )
    places = np.stack(list(keypoints.values()))  # (K, 3)
    gaps = cdist(places, surface).min(axis=1)
    for name, gap in zip(keypoints, gaps, strict=True):
        if gap > diameter_m / 2:
            raise SettingsError(
                f"{path}: keypoint {name!r} = {keypoints[name].tolist()} is {100 * gap:.3g} cm from "
                f"the mesh, {50 * diameter_m:.3g} cm are allowed; write it in metres, in the mesh's "
                "own frame"
            )
    # The second axis of the cloud: how far keypoints lie from the best line through them.
    centred = places - places.mean(axis=0)
    _, _, axes = np.linalg.svd(centred)
    off_line = np.linalg.norm(centred - centred @ axes[0][:, None] * axes[0], axis=1)
    if off_line.max() < _LEAST_SPREAD_M:
        raise SettingsError(
            f"{path}: the {len(keypoints)} keypoints lie on one line within "
            f"{1000 * off_line.max():.2g} mm, which leaves a turn about it open; "
            f"move one at least {1000 * _LEAST_SPREAD_M:g} mm off the line"
        )
