"""Pixels survive PNG; a payload of another kind, size or mode is reported and never repaired."""

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from flywheel.errors import PayloadError
from flywheel.examples.pose.labeling import picture
from flywheel.examples.pose.posing import IMAGE_PIXELS, decode, encode
from flywheel.records import Sample


def _noise(side=IMAGE_PIXELS):
    return np.random.default_rng(0).integers(0, 256, (side, side, 3), dtype=np.uint8)


def _sample(payload):
    return Sample.of(payload, "image/png")


def _saved(mode, size=(IMAGE_PIXELS, IMAGE_PIXELS), kind="PNG"):
    buffer = io.BytesIO()
    Image.new(mode, size).save(buffer, kind)
    return buffer.getvalue()


def _huge():
    """A header that promises 400 million pixels, and nothing more."""
    header = b"IHDR" + struct.pack(">IIBBBBB", 20_000, 20_000, 8, 2, 0, 0, 0)
    chunk = struct.pack(">I", 13) + header + struct.pack(">I", zlib.crc32(header))
    return b"\x89PNG\r\n\x1a\n" + chunk + struct.pack(">I", 9) + b"IDAT"


def test_pixels_survive_the_payload():
    pixels = _noise()
    found = decode(_sample(encode(pixels)))
    assert (found.dtype, found.tolist()) == (np.uint8, pixels.tolist())


def test_equal_pixels_give_equal_bytes():
    assert encode(_noise()) == encode(np.asfortranarray(_noise()))


def test_a_jpeg_is_a_picture_too():
    assert decode(_sample(_saved("RGB", kind="JPEG"))).shape == (IMAGE_PIXELS, IMAGE_PIXELS, 3)


def test_decoded_pixels_can_be_written_to():
    assert decode(_sample(encode(_noise()))).flags.writeable


def test_annotators_see_every_pixel_as_a_square():
    pixels = _noise()
    large = np.asarray(Image.open(io.BytesIO(picture(_sample(encode(pixels))))))
    assert large.shape == (8 * IMAGE_PIXELS, 8 * IMAGE_PIXELS, 3)
    assert (large.reshape(64, 8, 64, 8, 3) == pixels[:, None, :, None]).all()


@pytest.mark.parametrize(
    ("payload", "reported"),
    [
        (b"", "cannot identify an image in 0 bytes"),
        (b"no picture", "cannot identify an image in 10 bytes. Send a whole PNG"),
        (encode(_noise())[:200], "cannot be read as a picture"),
        (_saved("RGB", kind="GIF"), "Send a whole PNG or JPEG"),
        (_saved("RGB", (64, 48)), "64 x 48 pixels, 64 x 64 are needed; crop"),
        (_huge(), "(over 89 million|20,000 x 20,000) pixels, at most"),
        (_saved("L"), "mode 'L', RGB with 8 bits"),
        (_saved("RGBA"), "mode 'RGBA'"),
        (_saved("I;16"), "mode 'L', RGB with 8 bits"),
    ],
    ids=["empty", "text", "cut", "gif", "shape", "bomb", "gray", "transparent", "16 bits"],
)
def test_what_cannot_be_read_is_reported(payload, reported):
    with pytest.raises(PayloadError, match=f"sample [0-9a-f]{{12}}: .*{reported}"):
        decode(_sample(payload))
