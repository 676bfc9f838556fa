"""What lies in a bin and what it is made of, drawn at random: worn parts, dirty floors, clutter.

Severity is 0..1: how far production has drifted from what it was planned to be. It refuses to know
cameras and light.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from flywheel.records import Array
from flywheel.tasks.pose.part import Part
from flywheel.tasks.pose.render.layout import leaning, resting
from flywheel.tasks.pose.render.solids import Solid, box, cylinder
from flywheel.tasks.pose.render.texture import Pattern, Surface
from flywheel.world.cells import Cell, Colour

_RUST, _OIL = (0.23, 0.085, 0.03), (0.05, 0.045, 0.035)
_PART_M = 0.1
_WIDE_BARS = 0.2
_PAINTS: tuple[Colour, ...] = (
    (0.45, 0.45, 0.47),
    (0.10, 0.22, 0.12),
    (0.40, 0.24, 0.06),
    (0.30, 0.05, 0.04),
    (0.05, 0.05, 0.06),
)


def worn_part(severity: float, rng: np.random.Generator) -> Surface:
    """The part's metal: of some lightness, in half of the cases with rust or oil on it."""
    lightness, tint = rng.uniform(0.42 - 0.22 * severity, 0.46), rng.normal(0.0, 0.02, 3)
    colour = _tinted((lightness, lightness, lightness), tint)
    metal = Surface(
        colour=colour,
        grain=rng.uniform(0.0, 0.5) * severity,
        gloss=rng.uniform(0.05, 0.15 + 0.45 * severity),
        shininess=rng.uniform(8.0, 40.0),
        offset=_anywhere(rng),
    )
    kind = rng.random()
    if kind > 0.3 + 0.5 * severity:
        return metal
    cover, scale = rng.uniform(0.05, 0.1 + 0.45 * severity), rng.uniform(25.0, 80.0)
    second = _RUST if kind < 0.5 * severity else _OIL
    pattern = Pattern.PATCHES if rng.random() < 0.6 else Pattern.CLOUDS
    return replace(metal, second=second, pattern=pattern, cover=cover, scale_per_m=scale)


def dirty_floor(cell: Cell, severity: float, rng: np.random.Generator) -> Surface:
    """The cell's floor, darker or lighter, with more of its stains the further it has drifted."""
    shown = 0.2 + 0.8 * severity  # stains grow more marked, from a shadow of what they will be
    stain = tuple(a + shown * (b - a) for a, b in zip(cell.floor, cell.stain, strict=True))
    return Surface(
        colour=_tinted(cell.floor, rng.normal(0.0, 0.08 * severity)),
        second=_tinted(stain, rng.normal(0.0, 0.08 * severity)),
        pattern=cell.pattern,
        scale_per_m=rng.uniform(12.0, 30.0) * (1.0 + severity),
        cover=rng.uniform(0.1, 0.2 + 0.45 * severity),
        grain=rng.uniform(0.1, 0.2 + 0.6 * severity),
        offset=_anywhere(rng),
    )


def clutter(part: Part, middle_m: Array, severity: float, rng: np.random.Generator) -> list[Solid]:
    """Two to four boxes and cylinders about the part's middle (2,), now and then another part."""
    scale = part.diameter_m / _PART_M
    found = []
    for _ in range(int(rng.integers(2, 4 + int(rng.random() < severity)))):
        if rng.random() < 0.5:
            size = rng.uniform([0.012, 0.012, 0.006], [0.035, 0.025, 0.03]) * scale
            solid = box(tuple(size), _painted(severity, rng))
        else:
            radius, height = rng.uniform([0.006, 0.008], [0.012, 0.03]) * scale
            solid = cylinder(radius, height, _painted(severity, rng))
        way = rng.uniform(0.075, 0.11) * scale
        turn = leaning(rng.uniform(0.0, 360.0), 0.0, 0.0)
        found.append(solid.moved(turn, np.array([*(middle_m + way * _direction(rng)), 0.0])))
    if rng.random() < 0.2 * severity:
        found.append(_another(part, middle_m, severity, rng))
    return found


def bar(part: Part, middle_m: Array, height_m: float, rng: np.random.Generator) -> Solid:
    """A bar or a cable across the part's middle (2,) or beside it, at a height above the floor."""
    scale = part.diameter_m / _PART_M
    is_wide = rng.random() < _WIDE_BARS
    width = (rng.uniform(0.02, 0.035) if is_wide else rng.uniform(0.004, 0.014)) * scale
    surface = Surface(colour=_PAINTS[int(rng.integers(len(_PAINTS)))], gloss=0.2)
    across = _direction(rng)
    place = middle_m + rng.normal(0.0, 0.025 * scale) * np.array([-across[1], across[0]])
    turn = leaning(float(np.degrees(np.arctan2(across[1], across[0]))), 0.0, 0.0)
    long = box((0.6 * scale, width, 0.006 * scale), surface)
    return long.moved(turn, np.array([*place, height_m]))


def _another(part: Part, middle_m: Array, severity: float, rng: np.random.Generator) -> Solid:
    """A neighbour of the same kind, beside the part and so at the edge of the picture."""
    rotation = leaning(rng.uniform(0.0, 360.0), rng.uniform(0.0, 30.0), rng.uniform(0.0, 360.0))
    place = middle_m + rng.uniform(0.9, 1.15) * part.diameter_m * _direction(rng)
    solid = Solid(vertices=part.vertices, faces=part.faces, surface=worn_part(severity, rng))
    return solid.moved(rotation, resting(part, rotation, place))


def _painted(severity: float, rng: np.random.Generator) -> Surface:
    paint = _PAINTS[int(rng.integers(len(_PAINTS)))]
    return Surface(
        colour=_tinted(paint, rng.normal(0.0, 0.05, 3)),
        grain=rng.uniform(0.0, 0.4) * severity,
        gloss=rng.uniform(0.0, 0.4),
        offset=_anywhere(rng),
    )


def _tinted(colour: Sequence[float], change: Array | float) -> Colour:
    red, green, blue = np.clip(np.asarray(colour) + change, 0.02, 0.9)
    return float(red), float(green), float(blue)


def _anywhere(rng: np.random.Generator) -> tuple[float, float]:
    return float(rng.uniform(0.0, 64.0)), float(rng.uniform(0.0, 64.0))


def _direction(rng: np.random.Generator) -> Array:
    """(2,), a unit vector of any direction."""
    angle = rng.uniform(0.0, 2.0 * np.pi)
    return np.array([np.cos(angle), np.sin(angle)])
