"""Scenes of production: a bin in a robot cell, photographed up to three times while it is emptied.

Everything is drawn from the generator it is given, and everything is wider than in the start data:
how the part lies, light, colours, dirt, clutter, what is in the way, lens and sensor. The robot
cells of the simulated factory differ in camera, lamp and bin. Severity is 0..1: how far production
has drifted from what was planned.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from flywheel.examples.pose.part import Part
from flywheel.examples.pose.posing import Camera
from flywheel.examples.pose.render.effects import Effects
from flywheel.examples.pose.render.scene import (
    Clutter,
    Light,
    Scene,
    Solid,
    View,
    box,
    cylinder,
    leaning,
    look_at,
    resting,
    seen_from,
)
from flywheel.examples.pose.render.texture import Pattern, Surface
from flywheel.records import Array

Colour = tuple[float, float, float]


@dataclass(frozen=True, kw_only=True, slots=True)
class Cell:
    """One robot cell. Lengths are for a part of 10 cm and grow with the part."""

    name: str
    share: float
    """0..1, of all picks"""
    height_m: float
    """of the camera above the bin's floor"""
    lean_deg: float
    """angle of the line of sight from the vertical"""
    side_deg: float
    """where it stands beside the bin, from the bin's x"""
    focal_px: float
    """on the first day"""
    focal_drift: float
    """share by which the focal length has changed after very many nights"""
    lamp_deg: float
    """where the lamp stands, from the bin's x"""
    warmth: float
    """of its light: > 0 reddish, < 0 bluish"""
    floor: Colour
    stain: Colour
    """second colour of the floor's pattern"""
    pattern: Pattern


CELLS = (
    Cell(
        name="north",
        share=0.45,
        height_m=0.43,
        lean_deg=18.0,
        side_deg=-90.0,
        focal_px=197.0,
        focal_drift=0.05,
        lamp_deg=120.0,
        warmth=0.0,
        floor=(0.17, 0.18, 0.19),
        stain=(0.08, 0.08, 0.08),
        pattern=Pattern.CLOUDS,
    ),
    Cell(
        name="south",
        share=0.35,
        height_m=0.50,
        lean_deg=12.0,
        side_deg=-75.0,
        focal_px=227.0,
        focal_drift=-0.07,
        lamp_deg=-30.0,
        warmth=0.15,
        floor=(0.08, 0.15, 0.30),
        stain=(0.22, 0.20, 0.16),
        pattern=Pattern.PATCHES,
    ),
    Cell(
        name="west",
        share=0.20,
        height_m=0.38,
        lean_deg=26.0,
        side_deg=-105.0,
        focal_px=181.0,
        focal_drift=0.08,
        lamp_deg=200.0,
        warmth=-0.12,
        floor=(0.34, 0.31, 0.26),
        stain=(0.18, 0.15, 0.11),
        pattern=Pattern.STRIPES,
    ),
)


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


_MOST_TILT_DEG, _FLAT_DEG = 40.0, 15.0
_MOST_PICTURES = 3


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
    stain = tuple(
        floor + shown * (stained - floor)
        for floor, stained in zip(cell.floor, cell.stain, strict=True)
    )
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


@dataclass(frozen=True, kw_only=True, slots=True)
class Moment:
    """Where and when a bin is photographed."""

    cell: Cell
    is_day: bool
    """by day light comes through the windows too"""
    drift: float
    """0..1, how far the cell has drifted from its first night"""
    severity: float
    """0..1, how far production is from the start data; the spread of all that is drawn"""


def draw_moment(night: int, rng: np.random.Generator) -> Moment:
    """A cell and a shift; severity rises more and more slowly with the nights, from 0.2 to 0.5."""
    cell = CELLS[int(rng.choice(len(CELLS), p=[cell.share for cell in CELLS]))]
    return Moment(
        cell=cell,
        is_day=bool(rng.random() < 0.5),
        drift=1.0 - math.exp(-night / 8.0),
        severity=0.5 - 0.3 * math.exp(-night / 6.0),
    )


def draw_bin(part: Part, moment: Moment, rng: np.random.Generator) -> list[Scene]:
    """One to three pictures of the same bin.

    From one to the next a thing has been taken out and the part has been pushed a little.
    """
    scale, severity = part.diameter_m / _PART_M, moment.severity
    middle = rng.normal(0.0, 0.012, 2).clip(-0.03, 0.03) * scale
    rotation = _lying(rng)
    view, camera, light = _view(moment, scale, rng), _camera(moment, rng), _light(moment, rng)
    worn, floor = worn_part(severity, rng), dirty_floor(moment.cell, severity, rng)
    things = clutter(part, middle, severity, rng)
    if rng.random() < 0.06 + 0.3 * severity:
        height = float(np.ptp(part.vertices @ rotation.T, axis=0)[2])
        things.append(bar(part, middle, height + rng.uniform(0.005, 0.04) * scale, rng))
    scenes = []
    for number in range(int(rng.integers(1, _MOST_PICTURES + 1))):
        if number:
            rotation = leaning(rng.normal(0.0, 2.0), abs(rng.normal(0.0, 1.5)), 90.0) @ rotation
            middle = middle + rng.normal(0.0, 0.0025, 2) * scale
        position = resting(part, rotation, middle)
        scene = Scene(
            pose=seen_from(view, camera, rotation, position),
            view=view,
            light=light,
            part=worn,
            floor=floor,
            clutter=Clutter.of(things[number:]),
            effects=_effects(moment, rng),
        )
        scenes.append(scene)
    return scenes


def _lying(rng: np.random.Generator) -> Array:
    """(3, 3): turned in any way; most lie nearly flat, the others lean on something."""
    most = _MOST_TILT_DEG if rng.random() < 0.3 else _FLAT_DEG
    return leaning(rng.uniform(0.0, 360.0), rng.uniform(0.0, most), rng.uniform(0.0, 360.0))


def _view(moment: Moment, scale: float, rng: np.random.Generator) -> View:
    """Where the cell's camera stands, give or take the robot that carries it."""
    cell, severity = moment.cell, moment.severity
    lean = math.radians(max(cell.lean_deg + rng.normal(0.0, 2.0 + 4.0 * severity), 0.0))
    side = math.radians(cell.side_deg + rng.normal(0.0, 6.0 + 6.0 * severity))
    away = float(np.clip(cell.height_m * (1.0 + rng.normal(0.0, 0.06)), 0.35, 0.6))
    sine = math.sin(lean)
    eye = np.array([sine * math.cos(side), sine * math.sin(side), math.cos(lean)]) * away * scale
    target = np.array([0.0, 0.0, 0.02 * scale])
    return look_at(eye, target, rng.normal(0.0, 3.0 * severity))


def _camera(moment: Moment, rng: np.random.Generator) -> Camera:
    """The cell's lens, which ages; the crop is cut a little differently every time."""
    focal = moment.cell.focal_px * (1.0 + moment.cell.focal_drift * moment.drift)
    focal *= 1.0 + rng.normal(0.0, 0.008)
    cx, cy = 31.5 + rng.normal(0.0, 1.0 + moment.severity, 2)
    return Camera(fx=focal, fy=focal * (1.0 + rng.normal(0.0, 0.003)), cx=float(cx), cy=float(cy))


def _light(moment: Moment, rng: np.random.Generator) -> Light:
    """By day soft and bluish from all around, by night one warm lamp with hard shadows."""
    cell, severity = moment.cell, moment.severity
    around = math.radians(cell.lamp_deg + rng.normal(0.0, 20.0 + 50.0 * severity))
    up = math.radians(rng.uniform(75.0 - 40.0 * severity, 85.0))
    direction = [math.cos(up) * math.cos(around), math.cos(up) * math.sin(around), math.sin(up)]
    warmth = cell.warmth + rng.normal(0.0, 0.04 + 0.08 * severity)
    warmth += -0.08 * severity if moment.is_day else 0.10 * severity
    lamp = rng.uniform(0.5, 0.9) if moment.is_day else rng.uniform(0.7, 1.3)
    ambient = rng.uniform(0.3, 0.55) if moment.is_day else rng.uniform(0.08, 0.3)
    tint = np.clip([1.0 + warmth, 1.0, 1.0 - warmth], 0.3, 1.7)
    red, green, blue = (lamp * tint).tolist()
    pale_red, pale_green, pale_blue = (ambient * (0.5 + 0.5 * tint)).tolist()
    return Light(
        direction=np.array(direction),
        colour=(red, green, blue),
        ambient=(pale_red, pale_green, pale_blue),
        shadow=rng.uniform(0.4, 0.9) if moment.is_day else rng.uniform(0.8, 1.0),
        softness_px=rng.uniform(1.0, 2.5) if moment.is_day else rng.uniform(0.4, 1.0),
    )


def _effects(moment: Moment, rng: np.random.Generator) -> Effects:
    """Lens and sensor of one picture; by night it is dark and the sensor noisy."""
    severity = moment.severity
    bias = 0.0 if moment.is_day else -0.4 * severity
    balance = np.exp(rng.normal(0.0, 0.02 + 0.05 * severity, 3)).tolist()
    moves = rng.random() < 0.2 + 0.25 * severity
    right, down = rng.normal(0.0, 1.4 * severity, 2).tolist() if moves else (0.0, 0.0)
    return Effects(
        exposure=float(np.exp(rng.normal(bias, 0.12 + 0.22 * severity))),
        white_balance=(balance[0], balance[1], balance[2]),
        vignetting=rng.uniform(0.0, 0.1 + 0.4 * severity),
        motion_px=(right, down),
        defocus_px=rng.uniform(0.2, 0.4 + 0.7 * severity),
        noise=rng.uniform(0.008, 0.012 + 0.03 * severity) * (1.0 if moment.is_day else 1.5),
        seed=int(rng.integers(2**62)),
    )
