"""Any picture becomes one input, and anything else a PayloadError."""

import io
import struct
import zlib

import numpy as np
import pytest
import torch
from PIL import Image

from flywheel.errors import PayloadError
from flywheel.records import Sample


def _encoded(image: Image.Image, kind: str = "PNG", **options) -> Sample:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return Sample.of(buffer.getvalue(), f"image/{kind.lower()}")


def _gradient(mode: str) -> Image.Image:
    row = np.linspace(0, 255, 32).astype(np.uint8)
    return Image.fromarray(np.tile(row, (32, 1))).convert(mode)


def _png_that_claims(width: int, height: int) -> bytes:
    """A tiny file whose header says that it is huge."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        check = struct.pack(">I", zlib.crc32(kind + data))
        return struct.pack(">I", len(data)) + kind + data + check

    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    body = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0" * 100))
    return b"\x89PNG\r\n\x1a\n" + body + chunk(b"IEND", b"")


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGB", "RGBA", "LA", "I;16"])
def test_every_mode_of_png_becomes_gray_of_the_same_brightness(task, mode):
    image = _gradient("RGB" if mode == "P" else "L")
    if mode == "I;16":
        image = Image.fromarray(np.asarray(image).astype(np.uint16) * 257)
    inputs = task.inputs([_encoded(image if mode == "I;16" else image.convert(mode))])
    assert inputs.shape == (1, 1, 32, 32)
    assert inputs.dtype == torch.float32
    assert inputs.mean().item() == pytest.approx(0.5, abs=0.03)


@pytest.mark.parametrize("mode", ["L", "RGB", "CMYK"])
def test_a_jpeg_is_read_like_a_png(task, mode):
    inputs = task.inputs([_encoded(_gradient(mode), "JPEG", quality=95)])
    assert torch.allclose(inputs, task.inputs([_encoded(_gradient("L"))]), atol=0.05)


def test_what_is_transparent_shows_black(task):
    clear = Image.new("RGBA", (32, 32), (255, 255, 255, 0))
    assert task.inputs([_encoded(clear)]).max() == 0


@pytest.mark.parametrize("size", [(1, 1), (7, 300), (640, 480), (3000, 3000)])
def test_any_size_becomes_32_by_32_in_range(task, size):
    inputs = task.inputs([_encoded(Image.new("L", size, 200))])
    assert inputs.shape == (1, 1, 32, 32)
    assert 0 <= inputs.min() <= inputs.max() <= 1


def test_a_wide_picture_keeps_its_shape_between_black_bars(task):
    pixels = task.inputs([_encoded(Image.new("L", (64, 32), 255))])[0, 0]
    assert pixels[0].max() == 0
    assert pixels[16].min() == 1


def test_a_picture_is_turned_as_its_camera_says(task):
    exif = Image.Exif()
    exif[0x0112] = 3  # upside down
    turned = task.inputs([_encoded(_gradient("L"), "JPEG", exif=exif, quality=95)])[0, 0]
    assert turned[:, 0].mean() > turned[:, -1].mean()


def test_no_samples_are_an_empty_batch(task):
    assert task.inputs([]).shape == (0, 1, 32, 32)


@pytest.mark.parametrize(
    "payload", [b"", b"\x89PNG\r\n\x1a\n", b"hello", b"%PDF-1.7", b"\xff\xd8\xff\xe0"]
)
def test_what_is_no_picture_is_refused_with_the_next_step(task, payload):
    with pytest.raises(PayloadError, match="Send a whole PNG or JPEG file"):
        task.inputs([Sample.of(payload, "image/png")])


def test_other_picture_formats_are_refused(task):
    with pytest.raises(PayloadError, match="Send a whole PNG or JPEG file"):
        task.inputs([_encoded(_gradient("L"), "GIF")])


@pytest.mark.parametrize("side", [4000, 12_000, 60_000])
def test_more_than_ten_million_pixels_are_refused_before_they_are_decoded(task, side):
    sample = Sample.of(_png_that_claims(side, side), "image/png")
    with pytest.raises(PayloadError):
        task.inputs([sample])


def test_a_truncated_picture_is_refused(task):
    noise = np.random.default_rng(0).integers(0, 256, (64, 64)).astype(np.uint8)
    whole = _encoded(Image.fromarray(noise)).payload
    for length in range(0, len(whole) - 20, 97):
        with pytest.raises(PayloadError):
            task.inputs([Sample.of(whole[:length], "image/png")])


@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
def test_damaged_bytes_never_raise_anything_else(task, kind):
    rng = np.random.default_rng(0)
    whole = np.frombuffer(_encoded(_gradient("RGB"), kind).payload, dtype=np.uint8)
    refused = 0
    for _ in range(300):
        damaged = whole.copy()
        damaged[rng.integers(0, len(whole), 4)] = rng.integers(0, 256, 4)
        try:
            task.inputs([Sample.of(damaged.tobytes(), "image/png")])
        except PayloadError:
            refused += 1
    assert refused > 10


def test_annotators_see_the_picture_enlarged(task, examples):
    picture = Image.open(io.BytesIO(task.labeling.data(examples[0].sample)["image"].payload))
    assert (picture.format, picture.size) == ("PNG", (256, 256))


def test_bytes_that_are_no_picture_are_reported_by_their_number_and_not_an_address(task):
    with pytest.raises(PayloadError, match="cannot identify an image in 123 bytes") as caught:
        task.inputs([Sample.of(b"x" * 123, "image/png")])
    assert "0x" not in str(caught.value)
