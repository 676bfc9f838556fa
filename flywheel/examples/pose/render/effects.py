"""What lens and sensor do to the light: blur, vignetting, exposure, white balance, noise, 8 bits.

Images are planes (3, H, W) float32 of linear light until they are developed.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numba import njit

from flywheel.examples.pose.posing import IMAGE_PIXELS
from flywheel.records import Array

_LEAST_BLUR_PX = 0.15


@dataclass(frozen=True, kw_only=True, slots=True)
class Effects:
    """How one picture was taken. Lengths are in pixels of a 64 x 64 picture."""

    exposure: float = 1.0
    """factor on all light"""
    white_balance: tuple[float, float, float] = (1.0, 1.0, 1.0)
    """factors on red, green and blue"""
    vignetting: float = 0.0
    """0..1, share of the light that is lost in the corners"""
    motion_px: tuple[float, float] = (0.0, 0.0)
    """how far the picture moved right and down during the exposure"""
    defocus_px: float = 0.0
    """one sigma of the blur"""
    noise: float = 0.0
    """one sigma, as a share of full scale; even over the range, as shot noise is after a square root"""
    seed: int = 0
    """of the noise, 0 .. 2**63 - 1"""


def blurred(image: Array, sigma_px: float) -> Array:
    """Planes (C, H, W) float32 -> the same, blurred by a Gaussian; edges repeat."""
    if sigma_px < _LEAST_BLUR_PX:
        return image
    radius = min(math.ceil(2.5 * sigma_px), 8)
    taps = np.exp(-0.5 * (np.arange(-radius, radius + 1) / sigma_px) ** 2)
    weights = (taps / taps.sum()).astype(np.float32)
    out: Array = _down_columns(_along_rows(image, weights), weights)
    return out


def develop(image: Array, effects: Effects) -> Array:
    """Linear light (3, H, W) float32 -> the picture (H, W, 3) uint8.

    The square root stands for the gamma of a display, 2.0 instead of 2.2.
    """
    side = image.shape[2] / IMAGE_PIXELS
    image = blurred(image, effects.defocus_px * side)
    right, down = effects.motion_px[0] * side, effects.motion_px[1] * side
    if max(abs(right), abs(down)) > _LEAST_BLUR_PX:
        image = _moved(image, right, down)
    gains = np.array(effects.white_balance) * effects.exposure
    picture: Array = _sensor(image, gains, effects.vignetting, effects.noise, effects.seed)
    return picture


@njit(cache=True, error_model="numpy")
def _along_rows(image: Array, taps: Array) -> Array:
    """Weighted by taps (2 R + 1,)."""
    planes, height, width = image.shape
    radius = len(taps) // 2
    out = np.zeros_like(image)
    padded = np.empty(width + 2 * radius, dtype=np.float32)
    for plane in range(planes):
        for row in range(height):
            padded[:radius] = image[plane, row, 0]
            padded[radius : radius + width] = image[plane, row]
            padded[radius + width :] = image[plane, row, width - 1]
            for tap in range(len(taps)):
                for column in range(width):
                    out[plane, row, column] += taps[tap] * padded[column + tap]
    return out


@njit(cache=True, error_model="numpy")
def _down_columns(image: Array, taps: Array) -> Array:
    planes, height, width = image.shape
    radius = len(taps) // 2
    out = np.zeros_like(image)
    for plane in range(planes):
        for row in range(height):
            for tap in range(len(taps)):
                source = min(max(row + tap - radius, 0), height - 1)
                for column in range(width):
                    out[plane, row, column] += taps[tap] * image[plane, source, column]
    return out


@njit(cache=True, error_model="numpy")
def _moved(image: Array, right: float, down: float) -> Array:
    """The mean of five places along the way."""
    planes, height, width = image.shape
    out = np.zeros_like(image)
    for tap in range(-2, 3):
        du, dv = right * tap / 4.0, down * tap / 4.0
        i, j = math.floor(du), math.floor(dv)
        a, b = np.float32(du - i), np.float32(dv - j)
        for plane in range(planes):
            for row in range(height):
                up, low = min(max(row + j, 0), height - 1), min(max(row + j + 1, 0), height - 1)
                for column in range(width):
                    one, two = (
                        min(max(column + i, 0), width - 1),
                        min(max(column + i + 1, 0), width - 1),
                    )
                    top = image[plane, up, one] + a * (
                        image[plane, up, two] - image[plane, up, one]
                    )
                    base = image[plane, low, one] + a * (
                        image[plane, low, two] - image[plane, low, one]
                    )
                    out[plane, row, column] += np.float32(0.2) * (top + b * (base - top))
    return out


@njit(cache=True, error_model="numpy")
def _sensor(image: Array, gains: Array, vignetting: float, noise: float, seed: int) -> Array:
    """Gains (3,), square root, noise and rounding, in this order."""
    planes, height, width = image.shape
    picture = np.empty((height, width, 3), dtype=np.uint8)
    spread = noise * 255.0 / (65536.0 * math.sqrt(1.0 / 3.0))
    for row in range(height):
        for column in range(width):
            x, y = 2.0 * (column + 0.5) / width - 1.0, 2.0 * (row + 0.5) / height - 1.0
            falloff = 1.0 - 0.5 * vignetting * (x * x + y * y)
            for plane in range(planes):
                light = max(image[plane, row, column], 0.0) * gains[plane] * falloff
                value = 255.0 * math.sqrt(min(light, 1.0))
                if spread > 0.0:
                    value += spread * _four_sides(seed, (row * width + column) * 3 + plane)
                picture[row, column, plane] = np.uint8(min(max(value + 0.5, 0.0), 255.0))
    return picture


@njit(cache=True, error_model="numpy")
def _four_sides(seed: int, index: int) -> float:
    """Nearly normal: the sum of four even numbers of 16 bits, less its mean 131070.

    Bits of splitmix64 (Steele, Lea and Flood, "Fast splittable pseudorandom number generators",
    2014), so that the noise of a sample depends on seed and place alone.
    """
    bits = np.uint64(seed) + np.uint64(index + 1) * np.uint64(0x9E3779B97F4A7C15)
    bits = (bits ^ (bits >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    bits = (bits ^ (bits >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    bits ^= bits >> np.uint64(31)
    low = np.uint64(0xFFFF)
    total = (bits & low) + ((bits >> np.uint64(16)) & low) + ((bits >> np.uint64(32)) & low)
    return float(total + (bits >> np.uint64(48))) - 131070.0
