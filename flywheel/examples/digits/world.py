"""Production traffic of the digits project: real scans that drift further every night.

Every arrival drifts in its own way: turned, thicker or thinner, faint, partly covered. Night by
night more of them come from phones, which drift most, and one class becomes common.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import ndimage
from sklearn.datasets import load_digits

from flywheel.examples.digits.task import CLASSES, clean_scan, encode_png, start_scans
from flywheel.examples.traffic import Arrival
from flywheel.records import Array, Json

_COMMON_CLASS = 4


@dataclass(frozen=True)
class DriftingScans:
    """The traffic of a whole production, fixed by its seed."""

    seed: int
    arrivals_per_night: int = 400
    """at most the 1,377 scans outside the start data; a scan arrives once a night at most"""

    def traffic(self, night: int) -> list[Arrival]:
        """The arrivals of a night, the same ones at every call."""
        rng = np.random.default_rng([self.seed, night, 0])
        scans = load_digits()
        start = {scan for part in start_scans() for scan in part}
        others = [scan for scan in range(len(scans.target)) if scan not in start]
        chance = _chances(scans.target[others], night)
        chosen = rng.choice(others, self.arrivals_per_night, replace=False, p=chance)
        return [_arrival(scans, int(scan), night, rng) for scan in chosen]

    def truth_set(self, night: int, num_samples: int) -> list[Arrival]:
        """Arrivals like a night's, but of the scans held for testing.

        The product never sees them: they measure how good it really is.
        """
        rng = np.random.default_rng([self.seed, night, 1])
        scans = load_digits()
        _, held = start_scans()
        chosen = rng.choice(held, num_samples, p=_chances(scans.target[held], night))
        return [_arrival(scans, int(scan), night, rng) for scan in chosen]

    @staticmethod
    def is_right(answer: Json, truth: Json) -> bool:
        """Whether the digit is the right one."""
        return bool(answer == truth)


def _chances(targets: Array, night: int) -> Array:
    """Chance of each scan; the common class gains half a share a night, up to four shares."""
    shares = np.where(targets == _COMMON_CLASS, min(1.0 + 0.5 * night, 4.0), 1.0)
    chances: Array = shares / shares.sum()
    return chances


def _arrival(scans: Any, scan: int, night: int, rng: np.random.Generator) -> Arrival:
    is_phone = rng.random() < min(0.4 + 0.03 * night, 0.7)
    severity = _severity(night) * (1.4 if is_phone else 0.8)
    pixels = _drift(clean_scan(scans.images[scan]), severity, rng)
    return Arrival(
        payload=encode_png(pixels),
        media_type="image/png",
        metadata={"scan": scan, "site": "phone" if is_phone else "desk"},
        truth=CLASSES[scans.target[scan]],
    )


def _severity(night: int) -> float:
    """1.05 on night 0, rising more and more slowly towards 1.35."""
    return 1.35 - 0.3 * math.exp(-night / 6.0)


def _drift(pixels: Array, severity: float, rng: np.random.Generator) -> Array:
    """(32, 32) of 0..1 -> the same, drifted; noise comes last, as in a camera."""
    turned = ndimage.rotate(pixels, rng.normal(8.0, 14.0) * severity, reshape=False, order=1)
    drifted = _stroke(turned, severity, rng)
    drifted = _cover(drifted, severity, rng)
    ink = 1.0 - min(rng.uniform(0.0, 0.45) * severity, 0.75)
    paper = rng.uniform(0.0, 0.2) * severity
    noise = rng.normal(0.0, 0.03 * severity, pixels.shape)
    return np.clip(paper + (ink - paper) * drifted + noise, 0.0, 1.0)


def _stroke(pixels: Array, severity: float, rng: np.random.Generator) -> Array:
    """Thicker for half of the arrivals, thinner for a quarter."""
    kind = rng.random()
    if kind < 0.5:
        size = 2 + int(rng.random() < 0.5 * severity)
        return np.asarray(ndimage.grey_dilation(pixels, size=size))
    if kind < 0.75:
        return np.asarray(ndimage.grey_erosion(pixels, size=2))
    return pixels


def _cover(pixels: Array, severity: float, rng: np.random.Generator) -> Array:
    """A blank strip over an edge or through the middle, for some arrivals."""
    if rng.random() > 0.3 * severity:
        return pixels
    width = int(rng.uniform(3, 6) * severity)
    first = int(rng.integers(0, len(pixels) - width))
    covered = pixels.copy()
    strip = covered if rng.random() < 0.5 else covered.T  # a view: down, or across
    strip[first : first + width] = 0.0
    return covered
