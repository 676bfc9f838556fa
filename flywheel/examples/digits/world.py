"""The demo of the digits: production traffic in two worlds made of real scans, and its annotators.

In the *long tail* most traffic looks like the start data and is answered right; what fails is rare
and structured: a site whose camera hangs sideways, a lamp, a far camera, a hand that leans over. In
the world where *everything moved* every arrival drifts in its own way, further every night.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import ndimage
from sklearn.datasets import load_digits

from flywheel.examples.annotators import choosing_hand
from flywheel.examples.demos import Demo, three_annotators
from flywheel.examples.digits.task import CLASSES, clean_scan, encode_png, start_scans
from flywheel.examples.traffic import Arrival
from flywheel.records import Array, Json

_COMMON_CLASS = 4


@dataclass(frozen=True)
class Scans(ABC):
    """The traffic of a whole production, fixed by its seed."""

    seed: int
    arrivals_per_night: int = 400
    """at most the 1,377 scans outside the start data; a scan arrives once a night at most"""

    @abstractmethod
    def chances(self, targets: Array, night: int) -> Array:
        """The chance of each scan to arrive in a night; `targets` are their classes, 0..9."""

    @abstractmethod
    def arrival(
        self, pixels: Array, night: int, rng: np.random.Generator
    ) -> tuple[Array, str, str]:
        """How a clean scan arrives: its pixels, the site, and what is special about it."""

    def traffic(self, night: int) -> list[Arrival]:
        """The arrivals of a night, the same ones at every call."""
        rng = np.random.default_rng([self.seed, night, 0])
        scans = load_digits()
        start = {scan for part in start_scans() for scan in part}
        others = [scan for scan in range(len(scans.target)) if scan not in start]
        chance = self.chances(scans.target[others], night)
        chosen = rng.choice(others, self.arrivals_per_night, replace=False, p=chance)
        return [self._arrival(scans, int(scan), night, rng) for scan in chosen]

    def truth_set(self, night: int, num_samples: int) -> list[Arrival]:
        """Arrivals like a night's, but of the scans held for testing.

        The product never sees them: they measure how good it really is.
        """
        rng = np.random.default_rng([self.seed, night, 1])
        scans = load_digits()
        _, held = start_scans()
        chosen = rng.choice(held, num_samples, p=self.chances(scans.target[held], night))
        return [self._arrival(scans, int(scan), night, rng) for scan in chosen]

    @staticmethod
    def is_right(answer: Json, truth: Json) -> bool:
        """Whether the digit is the right one."""
        return bool(answer == truth)

    def _arrival(self, scans: Any, scan: int, night: int, rng: np.random.Generator) -> Arrival:
        pixels, site, kind = self.arrival(clean_scan(scans.images[scan]), night, rng)
        return Arrival(
            payload=encode_png(pixels),
            media_type="image/png",
            metadata={"scan": scan, "site": site},
            truth=CLASSES[scans.target[scan]],
            kind=kind,
        )


class LongTail(Scans):
    """Nine arrivals of ten are as in the start data; the others come in four rare kinds."""

    def chances(self, targets: Array, night: int) -> Array:  # noqa: ARG002
        """Every scan is as likely as any other, in every night."""
        return np.full(len(targets), 1 / len(targets))

    def arrival(
        self,
        pixels: Array,
        night: int,  # noqa: ARG002
        rng: np.random.Generator,
    ) -> tuple[Array, str, str]:
        """A kind by its share of the traffic; the kiosk is the only one that its site gives away."""
        kind = str(rng.choice(list(_SHARES), p=list(_SHARES.values())))
        seen = _AS_SEEN[kind](pixels, rng) + rng.normal(0.0, 0.03, pixels.shape)
        return np.clip(seen, 0.0, 1.0), "kiosk" if kind == "kiosk" else "desk", kind


class DriftingScans(Scans):
    """Every arrival has drifted, night by night further; phones drift most, one class grows common."""

    def chances(self, targets: Array, night: int) -> Array:
        """The common class gains half a share a night, up to four shares."""
        shares = np.where(targets == _COMMON_CLASS, min(1.0 + 0.5 * night, 4.0), 1.0)
        chances: Array = shares / shares.sum()
        return chances

    def arrival(
        self, pixels: Array, night: int, rng: np.random.Generator
    ) -> tuple[Array, str, str]:
        """A drifted scan from a phone or a desk."""
        is_phone = rng.random() < min(0.4 + 0.03 * night, 0.7)
        severity = _severity(night) * (1.4 if is_phone else 0.8)
        site = "phone" if is_phone else "desk"
        return _drift(pixels, severity, rng), site, site


def _desk(pixels: Array, rng: np.random.Generator) -> Array:
    return _turned(pixels, rng.normal(0.0, 5.0))


def _kiosk(pixels: Array, rng: np.random.Generator) -> Array:
    """The camera hangs sideways."""
    return _turned(pixels, 90.0 + rng.normal(0.0, 6.0))


def _lamp(pixels: Array, rng: np.random.Generator) -> Array:
    """Pale ink, and paper that is lit from one side."""
    light = np.linspace(0.0, rng.uniform(0.4, 0.7), pixels.shape[1])
    lit: Array = pixels * rng.uniform(0.3, 0.5) + light[None, :]
    return lit


def _far(pixels: Array, rng: np.random.Generator) -> Array:
    """Half as large, anywhere in the picture."""
    small = pixels.reshape(len(pixels) // 2, 2, -1, 2).mean(axis=(1, 3))
    row, column = rng.integers(0, len(pixels) - len(small) + 1, 2)
    framed = np.zeros_like(pixels)
    framed[row : row + len(small), column : column + len(small)] = small
    return framed


def _leaning(pixels: Array, rng: np.random.Generator) -> Array:
    return _turned(pixels, -50.0 + rng.normal(0.0, 5.0))


def _turned(pixels: Array, degrees: float) -> Array:
    return np.asarray(ndimage.rotate(pixels, degrees, reshape=False, order=1))


_SHARES = {"desk": 0.87, "kiosk": 0.05, "lamp": 0.04, "far": 0.02, "leaning": 0.02}
_AS_SEEN = {"desk": _desk, "kiosk": _kiosk, "lamp": _lamp, "far": _far, "leaning": _leaning}


def _severity(night: int) -> float:
    """1.05 on the first day, rising more and more slowly towards 1.35."""
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


_ARRIVALS = 800
"""a night: several times as many as annotators are asked about, as in production"""


def demo() -> Demo:
    """The demo of the digits project."""
    return Demo(
        name="digits",
        nights=5,
        worlds={
            "long-tail": lambda seed: LongTail(seed=seed, arrivals_per_night=_ARRIVALS),
            "everything-moved": lambda seed: DriftingScans(seed=seed),
        },
        hand=lambda task, arrived: choosing_hand(arrived, task.labeling, CLASSES),
        annotators=three_annotators((0.02, 0.04, 0.07), (4.0, 3.0, 2.0)),
        exam_samples=4_000,
    )
