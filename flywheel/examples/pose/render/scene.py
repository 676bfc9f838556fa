"""All that a picture depends on besides the part's shape, in one frozen record.

Two frames: the camera's (x right, y down, z forward) and the bin's (z up, its floor is z = 0).
Lengths are in metres. Faces of a solid run counter-clockwise seen from outside.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from flywheel.examples.pose.part import Part
from flywheel.examples.pose.posing import Camera, Pose
from flywheel.examples.pose.render.effects import Effects
from flywheel.examples.pose.render.texture import Surface
from flywheel.records import Array

_BOX_FACES = np.array(
    [
        (0, 2, 1), (0, 3, 2), (4, 5, 6), (4, 6, 7), (0, 1, 5), (0, 5, 4),
        (1, 2, 6), (1, 6, 5), (2, 3, 7), (2, 7, 6), (3, 0, 4), (3, 4, 7),
    ],
    dtype=np.int32,
)  # fmt: skip
_BOX_CORNERS = np.array(
    [(-1, -1, 0), (1, -1, 0), (1, 1, 0), (-1, 1, 0), (-1, -1, 2), (1, -1, 2), (1, 1, 2), (-1, 1, 2)],
    dtype=np.float64,
)  # fmt: skip


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Solid:
    """One thing of one material."""

    vertices: Array
    """(V, 3), metres, frame of the bin"""
    faces: Array
    """(F, 3) int32, counter-clockwise seen from outside"""
    surface: Surface

    def moved(self, rotation: Array, position_m: Array) -> Solid:
        """The same, turned by (3, 3), then shifted by (3,)."""
        vertices = self.vertices @ rotation.T + position_m
        return Solid(vertices=vertices, faces=self.faces, surface=self.surface)


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Clutter:
    """All solids of a scene in one mesh."""

    vertices: Array = field(default_factory=lambda: np.zeros((0, 3)))
    """(V, 3), metres, frame of the bin"""
    faces: Array = field(default_factory=lambda: np.zeros((0, 3), dtype=np.int32))
    """(F, 3) int32"""
    surface_of: Array = field(default_factory=lambda: np.zeros(0, dtype=np.int32))
    """(F,) int32, index into `surfaces`"""
    surfaces: tuple[Surface, ...] = ()

    @staticmethod
    def of(solids: Sequence[Solid]) -> Clutter:
        """These solids together."""
        if not solids:
            return Clutter()
        first = np.cumsum([0, *(len(solid.vertices) for solid in solids[:-1])])
        faces = [solid.faces + int(start) for solid, start in zip(solids, first, strict=True)]
        counts = [len(solid.faces) for solid in solids]
        return Clutter(
            vertices=np.concatenate([solid.vertices for solid in solids]),
            faces=np.concatenate(faces).astype(np.int32),
            surface_of=np.repeat(np.arange(len(solids), dtype=np.int32), counts),
            surfaces=tuple(solid.surface for solid in solids),
        )


def box(size_m: Sequence[float], surface: Surface) -> Solid:
    """A box of size (3,) whose bottom is centred on the origin."""
    vertices = _BOX_CORNERS * (np.asarray(size_m) / 2.0)
    return Solid(vertices=vertices, faces=_BOX_FACES, surface=surface)


def cylinder(radius_m: float, height_m: float, surface: Surface, sides: int = 10) -> Solid:
    """An upright cylinder of `sides` flat sides whose bottom is centred on the origin."""
    angle = np.arange(sides) * (2.0 * np.pi / sides)
    ring = np.stack([radius_m * np.cos(angle), radius_m * np.sin(angle)], axis=1)
    bottom = np.column_stack([ring, np.zeros(sides)])
    top = np.column_stack([ring, np.full(sides, height_m)])
    one = np.arange(sides, dtype=np.int32)
    two = (one + 1) % sides
    inner = one[1:-1]
    faces = [
        np.stack([one, two, two + sides], axis=1),
        np.stack([one, two + sides, one + sides], axis=1),
        np.stack([np.zeros_like(inner), inner + 1, inner], axis=1),
        np.stack([np.full_like(inner, sides), inner + sides, inner + 1 + sides], axis=1),
    ]
    vertices = np.concatenate([bottom, top])
    return Solid(vertices=vertices, faces=np.concatenate(faces).astype(np.int32), surface=surface)


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Light:
    """One lamp far away, and light from everywhere."""

    direction: Array
    """(3,), unit vector towards the lamp, frame of the bin; z > 0"""
    colour: tuple[float, float, float] = (0.8, 0.8, 0.8)
    """red, green, blue of the lamp; 1 lights a white surface fully"""
    ambient: tuple[float, float, float] = (0.35, 0.35, 0.35)
    """the same of the light from everywhere"""
    shadow: float = 0.8
    """0..1, share of the lamp's light that a shadow on the floor takes away"""
    softness_px: float = 0.8
    """blur of the shadow's edge, one sigma, pixels of a 64 x 64 picture"""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class View:
    """How the camera stands over the bin: x_c = R x_bin + t."""

    rotation: Array
    """(3, 3), bin frame -> camera frame"""
    position_m: Array
    """(3,), origin of the bin in the camera's frame, metres"""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Scene:
    """A part in a bin, with all that lies around it, as one camera sees it."""

    pose: Pose
    """of the part; its camera is that of a 64 x 64 picture"""
    view: View
    light: Light
    part: Surface
    floor: Surface
    clutter: Clutter = field(default_factory=Clutter)
    """all other things, beside the part and in front of it"""
    effects: Effects = field(default_factory=Effects)


def look_at(eye_m: Array, target_m: Array, roll_deg: float = 0.0) -> View:
    """A camera at `eye_m` (3,) with `target_m` (3,) on its axis, turned about the axis by `roll_deg`.

    Straight down, the bin's x is the picture's right.
    """
    ahead = (target_m - eye_m) / np.linalg.norm(target_m - eye_m)
    # The bin's y is up in the picture, as on a map.
    down = np.array([0.0, -1.0, 0.0]) - ahead * -ahead[1]
    down /= np.linalg.norm(down)
    right = np.cross(down, ahead)
    angle = math.radians(roll_deg)
    rotation = np.stack(
        [
            math.cos(angle) * right + math.sin(angle) * down,
            math.cos(angle) * down - math.sin(angle) * right,
            ahead,
        ]
    )
    return View(rotation=rotation, position_m=-rotation @ eye_m)


def leaning(yaw_deg: float, tilt_deg: float, towards_deg: float) -> Array:
    """(3, 3), part -> bin: turned about the vertical by `yaw_deg`, then tipped by `tilt_deg`.

    It is tipped over to the side that lies at `towards_deg` from the bin's x.
    """
    yaw, tilt, towards = math.radians(yaw_deg), math.radians(tilt_deg), math.radians(towards_deg)
    x, y = -math.sin(towards), math.cos(towards)  # axis of the tipping, level
    cross = np.array([[0.0, 0.0, y], [0.0, 0.0, -x], [-y, x, 0.0]])
    tip = np.eye(3) + math.sin(tilt) * cross + (1.0 - math.cos(tilt)) * cross @ cross
    turn = np.array(
        [[math.cos(yaw), -math.sin(yaw), 0.0], [math.sin(yaw), math.cos(yaw), 0.0], [0.0, 0.0, 1.0]]
    )
    return np.asarray(tip @ turn)


def resting(part: Part, rotation: Array, place_m: Array) -> Array:
    """(3,), origin of a part turned by `rotation`: its middle above `place_m` (2,), on the floor."""
    turned = part.vertices @ rotation.T
    low, high = turned.min(axis=0), turned.max(axis=0)
    middle = (low[:2] + high[:2]) / 2.0
    return np.array([*(place_m - middle), -low[2]])


def seen_from(view: View, camera: Camera, rotation: Array, position_m: Array) -> Pose:
    """The pose before the camera of a part that is posed in the bin's frame."""
    return Pose(
        rotation=view.rotation @ rotation,
        position_m=view.rotation @ position_m + view.position_m,
        camera=camera,
    )
