"""The robot cells of the simulated factory: how their cameras stand, their lamps, and their bins.

Each differs from the others for good; what changes from bin to bin is in bin_scenes.py. It refuses
to know the part.
"""

from __future__ import annotations

from dataclasses import dataclass

from flywheel.tasks.pose.render.texture import Pattern

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
    """of its line of sight from the vertical"""
    side_deg: float
    """where it stands beside the bin, from the bin's x"""
    focal_px: float
    """at night 0"""
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
