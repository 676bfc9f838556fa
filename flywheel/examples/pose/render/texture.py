"""What a surface looks like: its colours, how they are spread over it, and how it shines.

Patterns are computed at the point that is seen, from one tile of value noise that repeats.
"""

from __future__ import annotations

import enum
import functools
import math
from dataclasses import dataclass

import numpy as np
from numba import njit
from scipy import ndimage

from flywheel.records import Array

_TILE = 128
"""texels along a side of the noise tile; a power of two"""
_TILE_SEED = 11
_GRAINS_PER_M = 20.0
"""repeats of the tile in a metre: its finest grains are then 1.5 mm wide"""


class Pattern(enum.IntEnum):
    """How the second colour is spread over the first."""

    PLAIN = 0
    CLOUDS = 1
    """mixed smoothly"""
    PATCHES = 2
    """islands with a clear edge: rust, oil, dirt"""
    STRIPES = 3
    CHECKER = 4


@dataclass(frozen=True, kw_only=True, slots=True)
class Surface:
    """One material."""

    colour: tuple[float, float, float]
    """red, green, blue; the shares of light that it throws back, 0..1"""
    second: tuple[float, float, float] = (0.0, 0.0, 0.0)
    """the other colour of the pattern"""
    pattern: Pattern = Pattern.PLAIN
    scale_per_m: float = 20.0
    """stripes, squares or clouds in a metre, about"""
    cover: float = 0.5
    """0..1, share of the second colour in CLOUDS and PATCHES"""
    grain: float = 0.0
    """0..1, roughness: how much brightness varies from millimetre to millimetre"""
    gloss: float = 0.0
    """0..1, strength of the highlight"""
    shininess: float = 20.0
    """exponent of the highlight, >= 1: higher is smaller"""
    offset: tuple[float, float] = (0.0, 0.0)
    """shifts the pattern, in repeats of it, so that no two surfaces look alike"""

    @property
    def row(self) -> tuple[float, ...]:
        """The 14 numbers that the compiled code reads."""
        spread = (float(self.pattern), self.scale_per_m, self.cover, self.grain)
        return (*self.colour, *self.second, *spread, self.gloss, self.shininess, *self.offset)


@functools.cache
def noise_tile() -> Array:
    """(128, 128) float32 of 0..1, evenly distributed: three octaves of value noise that repeat."""
    rng = np.random.default_rng(_TILE_SEED)
    total = np.zeros((_TILE, _TILE))
    for octave, weight in ((8, 1.0), (16, 0.5), (32, 0.3)):
        lattice = rng.random((octave, octave))
        smooth = ndimage.zoom(
            np.pad(lattice, 4, mode="wrap"), _TILE / octave, order=3, mode="nearest", grid_mode=True
        )
        edge = 4 * _TILE // octave
        total += weight * smooth[edge : edge + _TILE, edge : edge + _TILE]
    ranks = total.ravel().argsort().argsort().reshape(total.shape)
    return (ranks / (total.size - 1)).astype(np.float32)


@njit(cache=True, error_model="numpy")
def albedo(which: Array, places: Array, frames: Array, surfaces: Array, tile: Array) -> Array:
    """Colours (N, 3) of places (N, 3) in the camera's frame.

    which (N,) int32, the surface of each; frames (S, 3, 4), camera frame -> surface's own, metres;
    surfaces (S, 14), rows of `Surface`; the noise tile.
    """
    colours = np.empty(places.shape)
    texels_per_m = _GRAINS_PER_M * len(tile)
    for index in range(len(places)):
        kind = which[index]
        height = _coordinate(frames, kind, 2, places, index)
        # Slanted, so that one plane pattern runs over all sides of a solid without seams.
        along = _coordinate(frames, kind, 0, places, index) + 0.45 * height
        across = _coordinate(frames, kind, 1, places, index) + 0.65 * height
        share, bright, grain = 0.0, 1.0, surfaces[kind, 9]
        if surfaces[kind, 6] > 0.0:
            share = _share(surfaces, kind, along, across, tile)
        if grain > 0.0:
            # The nearest texel: grain is finer than a pixel anyway.
            column, row = math.floor(along * texels_per_m), math.floor(across * texels_per_m)
            bright += grain * (tile[row & (len(tile) - 1), column & (len(tile) - 1)] - 0.5)
        for channel in range(3):
            first, second = surfaces[kind, channel], surfaces[kind, channel + 3]
            colours[index, channel] = bright * (first + share * (second - first))
    return colours


@njit(cache=True, error_model="numpy")
def _coordinate(frames: Array, kind: int, axis: int, places: Array, one: int) -> float:
    """One coordinate of a place in a surface's frame."""
    # Indexed to the last: a row taken out of an array costs more than the sum.
    turned = frames[kind, axis, 0] * places[one, 0] + frames[kind, axis, 1] * places[one, 1]
    return float(turned + frames[kind, axis, 2] * places[one, 2] + frames[kind, axis, 3])


@njit(cache=True, error_model="numpy")
def _share(surfaces: Array, kind: int, along: float, across: float, tile: Array) -> float:
    """0..1, how much of the second colour a surface has at a place, metres."""
    pattern, scale = surfaces[kind, 6], surfaces[kind, 7]
    along, across = along * scale + surfaces[kind, 12], across * scale + surfaces[kind, 13]
    if pattern == 3.0:
        phase = along - math.floor(along)
        return float(min(max(8.0 * abs(phase - 0.5) - 1.5, 0.0), 1.0))
    if pattern == 4.0:
        return float((math.floor(along) + math.floor(across)) % 2)
    # Eight clouds are in a tile.
    noise = _noise(tile, along / 8.0, across / 8.0)
    softness = 0.5 if pattern == 1.0 else 0.06
    return float(min(max(0.5 + (surfaces[kind, 8] - noise) / (2.0 * softness), 0.0), 1.0))


@njit(cache=True, error_model="numpy")
def _noise(tile: Array, along: float, across: float) -> float:
    """The tile at a place given in tiles, between its texels."""
    size = len(tile)
    along, across = along * size, across * size
    column, row = math.floor(along), math.floor(across)
    right, down = along - column, across - row
    i, j = int(column) & (size - 1), int(row) & (size - 1)
    k, m = (i + 1) & (size - 1), (j + 1) & (size - 1)
    upper = tile[j, i] + right * (tile[j, k] - tile[j, i])
    lower = tile[m, i] + right * (tile[m, k] - tile[m, i])
    return float(upper + down * (lower - upper))
