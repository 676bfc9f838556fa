"""A picture's size is read before its pixels, and whatever is sent ends in one sentence."""

import io
import struct
import tracemalloc
import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

import flywheel
from flywheel.errors import PayloadError
from flywheel.pictures import open_picture, picture_size
from flywheel.records import Sample


def _saved(image: Image.Image, kind: str = "PNG", **options) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def _png(width: int, height: int, pixels: bytes) -> bytes:
    header = struct.pack(">IIBBBBB", width, height, 8, 6, 0, 0, 0)
    parts = _chunk(b"IHDR", header) + _chunk(b"IDAT", zlib.compress(pixels)) + _chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + parts


GRADIENT = Image.fromarray(np.tile(np.arange(32, dtype=np.uint8) * 8, (24, 1)))


@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
def test_a_picture_is_decoded(kind):
    payload = _saved(GRADIENT, kind)
    assert flywheel.open_picture(payload).size == picture_size(payload) == (32, 24)


def test_a_photograph_stands_upright_as_browsers_show_it():
    turned = Image.Exif()
    turned[0x0112] = 6
    shown = open_picture(_saved(GRADIENT, exif=turned))
    assert shown.size == picture_size(_saved(GRADIENT, exif=turned)) == (24, 32)
    assert np.array_equal(np.asarray(shown), np.rot90(np.asarray(GRADIENT), k=-1))


@pytest.mark.parametrize(
    ("mode", "colour", "shown"),
    [
        ("I;16", 100 * 257, 100),  # convert("L") clips it to 255
        ("I;16", 65_535, 255),
        ("RGBA", (0, 0, 0, 0), 255),  # convert("L") shows the black that nobody sees
        ("RGBA", (0, 0, 0, 255), 0),
        ("LA", (40, 0), 255),
        ("P", 0, 255),
    ],
)
def test_a_model_sees_what_browsers_show(mode, colour, shown):
    options = {"transparency": 0} if mode == "P" else {}
    picture = open_picture(_saved(Image.new(mode, (4, 4), colour), **options))
    assert picture.convert("L").getextrema() == (shown, shown)


def test_another_ground_may_be_seen_through_what_is_transparent_or_none():
    payload = _saved(Image.new("RGBA", (4, 4), (0, 0, 0, 0)))
    assert open_picture(payload, ground=(9, 9, 9)).getpixel((0, 0)) == (9, 9, 9)
    assert open_picture(payload, ground=None).getpixel((0, 0)) == (0, 0, 0, 0)


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_a_bomb_is_refused_before_a_pixel_is_decoded():
    """13,000 x 13,000 pixels in a small file took 6.6 s and 0.8 GB; Pillow itself only warns."""
    bomb = _png(13_000, 13_000, bytes(4_000_000))
    assert len(bomb) < 10_000
    tracemalloc.start()
    for read in (open_picture, picture_size):
        with pytest.raises(PayloadError, match="13,000 x 13,000 pixels, at most 20,000,000 are"):
            read(bomb)
    assert tracemalloc.get_traced_memory()[1] < 1_000_000
    tracemalloc.stop()


@pytest.mark.parametrize("size", [(5_000, 4_001), (1, 30_000_000)])
def test_the_size_is_that_of_all_pixels(size):
    with pytest.raises(PayloadError, match=f"{size[0]:,} x {size[1]:,} pixels, at most 20,000,000"):
        open_picture(_png(*size, b""))


def test_a_caller_sets_the_limit():
    assert open_picture(_saved(GRADIENT), max_pixels=32 * 24).size == (32, 24)
    with pytest.raises(PayloadError, match="32 x 24 pixels, at most 767"):
        open_picture(_saved(GRADIENT), max_pixels=32 * 24 - 1)


def test_of_an_animation_the_first_frame_is_shown_and_other_formats_only_when_named():
    frames = [Image.new("L", (8, 8), shade) for shade in (10, 200)]
    animated = _saved(frames[0], "GIF", save_all=True, append_images=frames[1:])
    with pytest.raises(PayloadError, match="cannot identify an image"):
        open_picture(animated)
    assert open_picture(animated, formats=("GIF",)).convert("L").getpixel((0, 0)) == 10


def test_the_message_names_the_sample():
    sample = Sample.of(b"no picture", "image/png")
    with pytest.raises(PayloadError, match=f"sample {sample.id[:12]}: cannot identify an image in"):
        open_picture(sample)


WHOLE = [_saved(GRADIENT), _saved(GRADIENT, "JPEG"), _saved(GRADIENT.convert("P"), "PNG")]


@settings(max_examples=200, deadline=None)
@given(
    st.sampled_from(WHOLE),
    st.lists(st.tuples(st.integers(0, 2000), st.integers(0, 255)), max_size=6),
    st.integers(0, 2000),
)
def test_whatever_is_sent_is_a_picture_or_one_sentence(whole, flips, length):
    data = bytearray(whole)
    for place, value in flips:
        data[place % len(data)] = value
    try:
        opened = open_picture(bytes(data[:length]))
    except PayloadError:
        return
    assert opened.size[0] > 0
