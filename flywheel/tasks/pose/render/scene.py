"""All that a picture depends on besides the part's shape, in one frozen record.

Two frames: the camera's (x right, y down, z forward) and the bin's (z up, its floor is z = 0).
It refuses to know how scenes are drawn at random and how they become pixels.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from flywheel.records import Array
from flywheel.tasks.pose.posing import Pose
from flywheel.tasks.pose.render.effects import Effects
from flywheel.tasks.pose.render.solids import Clutter
from flywheel.tasks.pose.render.texture import Surface


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
