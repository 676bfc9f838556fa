"""Scenes of production: a bin in a robot cell, photographed up to three times while it is emptied.

Everything is drawn from the generator it is given, and everything is wider than in the start data:
how the part lies, light, colours, dirt, clutter, what is in the way, lens and sensor. It refuses
to know what is done with the pictures.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from flywheel.records import Array
from flywheel.tasks.pose.camera import Camera
from flywheel.tasks.pose.part import Part
from flywheel.tasks.pose.render.effects import Effects
from flywheel.tasks.pose.render.layout import leaning, look_at, resting, seen_from
from flywheel.tasks.pose.render.scene import Light, Scene, View
from flywheel.tasks.pose.render.solids import Clutter
from flywheel.world.bin_things import bar, clutter, dirty_floor, worn_part
from flywheel.world.cells import CELLS, Cell

_PART_M = 0.1
_MOST_TILT_DEG, _FLAT_DEG = 40.0, 15.0
_MOST_PICTURES = 3


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
