"""The things that lie about in a bin, as meshes of few triangles, and how they are put together.

Faces run counter-clockwise seen from outside.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

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
