"""The part that a robot grasps, read from its part.toml and mesh.

Everything is in the part's own frame, in metres. Unknown keys and invalid values in part.toml are
errors:

    name = "bracket"
    mesh = "bracket.ply"            # closed, metres, beside this file
    [keypoints]
    corner = [0.03, 0.0, 0.01]      # four or more, metres, in the part's frame
    [[symmetry]]
    axis = [0, 0, 1]                # through the origin of the part
    fold = 2                        # turns that look the same; 0: any angle does
    [gripper]
    axis = [1, 0, 0]                # along which the jaws close
    clearance_cm = 0.8              # on each side

Symmetries are rotations about the part's origin after which it looks the same. All that follow
from those in part.toml are found; a continuous one counts as 36 steps of 10 degrees. None is
guessed from the mesh: a printed mark may break it.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError
from scipy.spatial import cKDTree
from scipy.spatial.distance import cdist
from scipy.spatial.transform import Rotation

from flywheel.errors import SettingsError
from flywheel.examples.pose.mesh import (
    diameter_of,
    draw_points,
    feature_edges,
    read_mesh,
    surface_points,
)
from flywheel.examples.pose.posing import angle_deg
from flywheel.faults import describe_detail
from flywheel.records import Array

_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_ -]{0,39}")
_SUFFIXES = (".ply", ".obj")


_STEPS = 36
_MOST = 100
_SAME_DEG = 0.1
_MOST_GAP = 0.02


EXAMPLE_PART = Path(__file__).parent / "parts" / "bracket.toml"

_NUM_POINTS = 1_000
_NUM_DENSE = 100_000
_LEAST_KEYPOINTS = 4
_LEAST_SPREAD_M = 0.001


def _known_name(name: str) -> str:
    if _NAME.fullmatch(name) is None:
        raise ValueError(
            f"{name!r} is not a name; begin with a letter and use letters, digits, space, _ and -"
        )
    return name


def _known_suffix(mesh: str) -> str:
    if not mesh.lower().endswith(_SUFFIXES):
        raise ValueError(
            f"{mesh!r} is not a mesh file that can be read; save it as {' or '.join(_SUFFIXES)}"
        )
    return mesh


def _has_length(axis: list[float]) -> list[float]:
    if not any(axis):
        raise ValueError("points nowhere; write a direction, such as [0, 0, 1]")
    return axis


def _not_one(fold: int) -> int:
    if fold == 1:
        raise ValueError("is no symmetry; write 2 or more turns, 0 for any angle, or leave it out")
    return fold


Triple = Annotated[list[float], Field(min_length=3, max_length=3)]
_Axis = Annotated[Triple, AfterValidator(_has_length)]
_Name = Annotated[str, AfterValidator(_known_name)]


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


class Symmetry(_Section):
    """Section [[symmetry]]: a rotation after which the part looks the same."""

    axis: _Axis
    """direction through the origin of the part"""
    fold: Annotated[int, Field(ge=0, le=36), AfterValidator(_not_one)]
    """it turns by 360 / fold degrees; 0: by any angle, taken in 36 steps"""


class Gripper(_Section):
    """Section [gripper]."""

    axis: _Axis
    """direction in the part's frame along which the jaws close"""
    clearance_cm: Annotated[float, Field(gt=0, le=20)]
    """between each open jaw and the part, cm"""


class Description(_Section):
    """All of part.toml."""

    name: _Name
    mesh: Annotated[str, AfterValidator(_known_suffix)]
    """file, relative to the folder of part.toml"""
    keypoints: dict[str, Triple]
    """name -> place in the part's frame, metres"""
    symmetry: list[Symmetry] = []
    gripper: Gripper


def read_description(path: Path) -> Description:
    """The part that a file describes.

    Raises:
        SettingsError: the file is missing, is not TOML, or holds an invalid key or value;
            the message has one line for each fault.
    """
    try:
        settings = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise SettingsError(
            f"{path}: {error.strerror or error}; name a part.toml that describes the part"
        ) from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SettingsError(f"{path} is not TOML: {error}; correct it there") from error
    try:
        description = Description(**settings)
    except ValidationError as error:
        faults = [f"{path}: {describe_detail(detail, Description)}" for detail in error.errors()]
        raise SettingsError("\n".join(faults)) from error
    for name in description.keypoints:
        try:
            _known_name(name)
        except ValueError as error:
            raise SettingsError(f"{path}: [keypoints] {error}") from error
    return description


def symmetry_rotations(symmetries: Sequence[Symmetry], origin: str) -> Array:
    """(S, 3, 3), the smallest group that holds all of them, identity first.

    Args:
        symmetries: each names an axis and how many turns make a round.
        origin: the file that messages name.

    Raises:
        SettingsError: together they make more than 100 rotations.
    """
    steps = [_step(symmetry) for symmetry in symmetries]
    found = np.eye(3)[None]
    place = 0
    while place < len(found):
        for step in steps:
            turned = step @ found[place]
            if angle_deg(found, turned).min() > _SAME_DEG:
                found = np.concatenate([found, turned[None]])
        place += 1
        if len(found) > _MOST:
            raise SettingsError(
                f"{origin}: the {len(symmetries)} symmetries make more than {_MOST} rotations "
                "together; check that the angles between their axes are exact, or leave one out"
            )
    return found


def check_symmetries(
    symmetries: Sequence[Symmetry], surface: Array, diameter_m: float, origin: str
) -> None:
    """Check that each symmetry maps the surface, points (N, 3) drawn densely from it, to itself.

    Raises:
        SettingsError: a turned point is further than 2 % of the diameter from all others.
    """
    tree = cKDTree(surface)
    for number, symmetry in enumerate(symmetries):
        gap = float(tree.query(surface[::_STEPS] @ _step(symmetry).T)[0].max()) / diameter_m
        if gap > _MOST_GAP:
            raise SettingsError(
                f"{origin}: symmetry {number + 1} (axis {symmetry.axis}, fold {symmetry.fold}) "
                f"moves the surface by {gap:.0%} of the diameter, {_MOST_GAP:.0%} is allowed; "
                "it turns about the origin of the part: check axis, fold and origin"
            )


def _step(symmetry: Symmetry) -> Array:
    axis = np.array(symmetry.axis) / np.linalg.norm(symmetry.axis)
    turn: Array = Rotation.from_rotvec(axis * 2 * np.pi / (symmetry.fold or _STEPS)).as_matrix()
    return turn


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
        SettingsError: one of them is missing or invalid; the message names file and value.
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
            f"{_LEAST_KEYPOINTS}: add corners that are easy to distinguish"
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
