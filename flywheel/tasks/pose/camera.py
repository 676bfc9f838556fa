"""A pinhole camera: points to pixels, and pixels to rays.

Pixel coordinates are OpenCV's: the centre of the top-left pixel is (0, 0), u points right and v
down. Camera frame: x right, y down, z forward. Refuses to know lens distortion, which pictures
have lost before they come here, and where the camera stands.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from flywheel.errors import PayloadError
from flywheel.records import Array, Json

_EXAMPLE = '"camera": [70.0, 70.0, 31.5, 31.5]'


@dataclass(frozen=True, kw_only=True, slots=True)
class Camera:
    """Intrinsics of one picture, in pixels of that picture."""

    fx: float
    """focal length along u, px, > 0"""
    fy: float
    """focal length along v, px, > 0"""
    cx: float
    """u of the optical axis, px"""
    cy: float
    """v of the optical axis, px"""

    @property
    def values(self) -> list[float]:
        """[fx, fy, cx, cy], as answers and metadata hold them."""
        return [self.fx, self.fy, self.cx, self.cy]

    @staticmethod
    def read(values: Json) -> Camera:
        """The camera of [fx, fy, cx, cy].

        Raises:
            ValueError: these are not four finite numbers, or a focal length is not above 0.
        """
        if not isinstance(values, list | tuple) or not all(map(is_number, values)):
            raise ValueError(f"camera {values!r:.80} is no list of numbers; send {_EXAMPLE}")
        if len(values) != 4:
            raise ValueError(
                f"camera {values!r:.80} has {len(values)} numbers; send the four fx, fy, cx, cy"
            )
        fx, fy, cx, cy = (float(value) for value in values)
        if min(fx, fy) <= 0.0:
            raise ValueError(
                f"camera [{fx:g}, {fy:g}, {cx:g}, {cy:g}] cannot be inverted; "
                "the focal lengths fx and fy, its first two numbers, must be above 0 px"
            )
        return Camera(fx=fx, fy=fy, cx=cx, cy=cy)

    @staticmethod
    def of(metadata: Mapping[str, Json], name: str) -> Camera:
        """The camera that a sample carries; `name` is what messages call the sample.

        Raises:
            PayloadError: the metadata has no camera, or one that cannot be.
        """
        if "camera" not in metadata:
            known = ", ".join(sorted(metadata)) or "nothing"
            raise PayloadError(
                f"{name}: its metadata has no camera, only {known}; "
                f"send the intrinsics in pixels, {_EXAMPLE}"
            )
        try:
            return Camera.read(metadata["camera"])
        except ValueError as error:
            raise PayloadError(f"{name}: {error}") from error


def project(points: Array, camera: Camera) -> Array:
    """Points (..., 3) of the camera frame -> pixels (..., 2); NaN for one not in front of it."""
    depth = points[..., 2:]
    seen = np.where(depth > 0.0, depth, np.nan)
    pixels: Array = points[..., :2] / seen * [camera.fx, camera.fy] + [camera.cx, camera.cy]
    return pixels


def rays(pixels: Array, camera: Camera) -> Array:
    """Pixels (..., 2) -> (..., 2), x / z and y / z of all that is seen there."""
    found: Array = (np.asarray(pixels) - [camera.cx, camera.cy]) / [camera.fx, camera.fy]
    return found


def is_number(value: Json) -> bool:
    """Whether it is finite and fits a float; True and False are not numbers here."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    try:
        return math.isfinite(value)
    except OverflowError:  # an int of hundreds of digits
        return False
