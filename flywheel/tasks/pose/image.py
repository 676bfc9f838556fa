"""The picture of a sample: decoded for the model, encoded by the renderer, enlarged for people.

RGB, 8 bits a channel, square, of one size: a picture is never scaled here, since its intrinsics
would then be wrong without a word. Refuses to know what is to be seen.
"""

from __future__ import annotations

import io
import struct
import zlib

import numpy as np
from PIL import Image, UnidentifiedImageError

from flywheel.errors import PayloadError
from flywheel.records import Array, Sample

IMAGE_PIXELS = 64
"""side of a sample's picture"""
PICTURE_SCALE = 8
"""a pixel of the sample is a square of this side for people"""

# What Pillow raises for bytes that begin like a picture and are none.
_UNREADABLE = (
    OSError,
    SyntaxError,
    ValueError,
    EOFError,
    struct.error,
    zlib.error,
    Image.DecompressionBombError,
)


def decode(sample: Sample) -> Array:
    """(H, W, 3) uint8, RGB; H = W = IMAGE_PIXELS.

    Raises:
        PayloadError: the payload is no PNG or JPEG, of another size, or not RGB.
    """
    name, payload = f"sample {sample.id[:12]}", sample.payload
    try:
        image = Image.open(io.BytesIO(payload), formats=("PNG", "JPEG"))
        _check(image, name)  # the size is checked before a single pixel is decoded
        image.load()
    except UnidentifiedImageError as error:  # its own text is an address in memory
        raise PayloadError(
            f"{name}: cannot identify an image in {len(payload)} bytes of {sample.media_type!r}; "
            "send a whole PNG or JPEG file"
        ) from error
    except _UNREADABLE as error:
        raise PayloadError(
            f"{name}: {len(payload)} bytes of {sample.media_type!r} cannot be read as a picture "
            f"({error}); send a whole PNG or JPEG file"
        ) from error
    return np.array(image, dtype=np.uint8)


def encode(pixels: Array) -> bytes:
    """(H, W, 3) uint8, RGB -> PNG bytes, the same for the same pixels."""
    buffer = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(pixels)).save(buffer, "PNG", compress_level=1)
    return buffer.getvalue()


def picture(sample: Sample) -> bytes:
    """PNG that a person looks at: every pixel of the sample as a square of PICTURE_SCALE.

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
