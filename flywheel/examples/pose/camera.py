"""A pinhole camera: points to pixels, and pixels to rays.

Pixel coordinates are OpenCV's: the centre of the top-left pixel is (0, 0), u points right and v
down. Camera frame: x right, y down, z forward. Lens distortion must have been removed before.

A sample's picture is RGB, 8 bits a channel, square, of one size. It is never scaled here, since its
intrinsics would then be silently wrong.
"""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from PIL import Image

from flywheel.errors import PayloadError
from flywheel.pictures import open_picture
from flywheel.records import Array, Json, Sample, is_number

IMAGE_PIXELS = 64
"""side of a sample's picture"""
PICTURE_SCALE = 8
"""a pixel of the sample is shown to annotators as a square of this side"""

_MAX_PIXELS = 1_000_000
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
            raise ValueError(f"camera {values!r:.80} is not a list of numbers; send {_EXAMPLE}")
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
            PayloadError: the metadata has no camera, or an invalid one.
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
    """Pixels (..., 2) -> (..., 2), x / z and y / z of the points that are seen there."""
    found: Array = (np.asarray(pixels) - [camera.cx, camera.cy]) / [camera.fx, camera.fy]
    return found


def decode(sample: Sample) -> Array:
    """(H, W, 3) uint8, RGB; H = W = IMAGE_PIXELS.

    Raises:
        PayloadError: the payload is not a PNG or JPEG, of another size, or not RGB.
    """
    image = open_picture(sample, max_pixels=_MAX_PIXELS, ground=None)
    _check(image, f"sample {sample.id[:12]}")
    return np.array(image, dtype=np.uint8)


def encode(pixels: Array) -> bytes:
    """(H, W, 3) uint8, RGB -> PNG bytes, the same for the same pixels."""
    buffer = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(pixels)).save(buffer, "PNG", compress_level=1)
    return buffer.getvalue()


def picture(sample: Sample) -> bytes:
    """PNG for annotators: every pixel of the sample as a square of PICTURE_SCALE.

    Raises:
        PayloadError: see `decode`.
    """
    return encode(decode(sample).repeat(PICTURE_SCALE, axis=0).repeat(PICTURE_SCALE, axis=1))


def _check(image: Image.Image, name: str) -> None:
    width, height = image.size
    if (width, height) != (IMAGE_PIXELS, IMAGE_PIXELS):
        raise PayloadError(
            f"{name}: {width} x {height} pixels, {IMAGE_PIXELS} x {IMAGE_PIXELS} are needed; crop "
            "or scale the picture before sending it, and its camera with it"
        )
    if image.mode != "RGB":
        raise PayloadError(
            f"{name}: a picture of mode {image.mode!r}, RGB with 8 bits a channel is needed; "
            "convert it before sending it"
        )
