"""Opens pictures that a stranger sent: the size is read from the header before a pixel is decoded.

A file of 600 kB can hold a picture that needs a gigabyte. Every place that decodes one uses this
function, a user's task too.
"""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from flywheel.errors import PayloadError
from flywheel.records import Sample

MAX_PIXELS = 20_000_000
"""width x height; 80 MB with four bytes a pixel"""

ORIENTATION = 0x0112
"""EXIF's tag for how the camera was held; browsers turn such a picture"""
_LYING = (5, 6, 7, 8)
"""its values for a camera on its side"""

_TOO_LARGE = (Image.DecompressionBombError, Image.DecompressionBombWarning)
_UNREADABLE = (
    *(OSError, SyntaxError, ValueError, TypeError, LookupError, AttributeError),
    *(EOFError, OverflowError, ZeroDivisionError, struct.error, zlib.error),
)
"""what Pillow raises for files that are truncated or invalid"""


def open_picture(
    source: Sample | bytes,
    *,
    max_pixels: int = MAX_PIXELS,
    formats: Sequence[str] = ("PNG", "JPEG"),
    ground: tuple[int, int, int] | None = (255, 255, 255),
) -> Image.Image:
    """Return the picture of a sample or a file, decoded as browsers show it, and as annotators see it.

    It stands upright, 16 bits a channel are scaled to 8, and `ground` (RGB) is seen through what is
    transparent; with None it stays transparent. Of an animation this is the first frame. Formats are
    named as Pillow names them; others are not even tried.

    Raises:
        PayloadError: it is no picture of these formats, damaged, or has more pixels than allowed.
    """
    with _opened(source, max_pixels, formats) as image:
        image.load()
        upright = ImageOps.exif_transpose(image)
        if upright.mode.startswith("I"):  # which Pillow's convert() would clip
            levels = np.asarray(upright).clip(0, 65_535) // 257
            upright = Image.fromarray(levels.astype(np.uint8))
        if ground is None or not upright.has_transparency_data:
            return upright
        behind = Image.new("RGBA", upright.size, (*ground, 255))
        return Image.alpha_composite(behind, upright.convert("RGBA")).convert("RGB")


def picture_size(
    source: Sample | bytes,
    *,
    max_pixels: float = MAX_PIXELS,
    formats: Sequence[str] = ("PNG", "JPEG"),
) -> tuple[int, int]:
    """Return width and height in pixels of what `open_picture` returns, without decoding a JPEG.

    Raises:
        PayloadError: see `open_picture`.
    """
    with _opened(source, max_pixels, formats) as image:
        is_lying = image.getexif().get(ORIENTATION, 1) in _LYING
        return (image.height, image.width) if is_lying else (image.width, image.height)


@contextmanager
def _opened(
    source: Sample | bytes, max_pixels: float, formats: Sequence[str]
) -> Iterator[Image.Image]:
    """Give the picture before it is decoded; raise PayloadError for what Pillow cannot read."""
    payload = source if isinstance(source, bytes) else source.payload
    name = "the picture" if isinstance(source, bytes) else f"sample {source.id[:12]}"
    wanted = " or ".join(formats)
    try:
        image = Image.open(io.BytesIO(payload), formats=tuple(formats))
        if image.width * image.height > max_pixels:
            raise _too_large(name, f"{image.width:,} x {image.height:,}", max_pixels)
        yield image
    except UnidentifiedImageError as error:  # its own text is an address in memory
        raise PayloadError(
            f"{name}: cannot identify an image in {len(payload)} bytes. Send a whole {wanted} file."
        ) from error
    except _TOO_LARGE as error:
        raise _too_large(name, "over 89 million", max_pixels) from error
    except _UNREADABLE as error:
        raise PayloadError(
            f"{name}: {len(payload)} bytes cannot be read as a picture ({error}). "
            f"Send a whole {wanted} file."
        ) from error


def _too_large(name: str, size: str, max_pixels: float) -> PayloadError:
    return PayloadError(
        f"{name}: {size} pixels, at most {max_pixels:,} are decoded. "
        "Scale it down before sending it."
    )
