"""Marks on a picture: Label Studio's percent of its sides, an answer's pixels, and what reports draw.

Places are measured from the upper left corner of the picture, not from the middle of its first
pixel: a box of the whole picture begins at 0 and is as wide as the picture.
"""

from __future__ import annotations

import importlib.util
import io
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from PIL import Image, ImageDraw, ImageFont

from flywheel.errors import AnnotationError
from flywheel.labeling.matching import Element
from flywheel.pictures import open_picture, picture_size
from flywheel.records import Json, Sample, is_number

_DIGITS = 3
"""of a pixel, that answers have behind the point"""
_FARTHEST_PIXELS = 1e9
"""beyond lies no mark: areas of such numbers would overflow"""


class Size(NamedTuple):
    """Of a picture, in pixels."""

    width: int
    height: int


def _size(sample: Sample) -> Size:
    return Size(*picture_size(sample))


def _shared(size: Size) -> dict[str, Json]:
    return {"original_width": size.width, "original_height": size.height, "image_rotation": 0}


ON_PICTURES: Mapping[str, Any] = {"on": "image", "frame": _size, "shared": _shared}
"""what the markings of all kinds of marks on pictures have in common"""


def has_numbers(value: Json, *names: str) -> bool:
    """Whether a value is an element with a label and a number under each name."""
    is_element = isinstance(value, Mapping) and "label" in value
    return is_element and all(_is_place(value.get(name)) for name in names)


def is_pair(value: Json) -> bool:
    """Whether a value is a point [x, y]."""
    return isinstance(value, list) and len(value) == 2 and all(map(_is_place, value))


def _is_place(value: Json) -> bool:
    return is_number(value) and abs(value) <= _FARTHEST_PIXELS


def percent(pixels: float, whole: int) -> float:
    """A place in percent of the picture, the nearest inside of it."""
    return min(max(100.0 * pixels / whole, 0.0), 100.0)


def pixels_at(value: Mapping[str, Json], name: str, whole: int) -> float:
    """A place in pixels, the nearest inside of the picture: a hand may slip over its edge.

    Raises:
        ValueError: it is no number.
    """
    place = value.get(name)
    if not is_number(place):
        raise ValueError(f"whose {name} is {place!r:.40}. Draw it again")
    return round(min(max(place, 0.0), 100.0) / 100.0 * whole, _DIGITS)


_ANSWER, _LABEL = (255, 140, 0), (0, 220, 90)
"""orange and green, RGB; the label is drawn thinner and over the answer, so that both are seen"""
_DARK = (10, 10, 10)
_LEAST_PIXELS, _MOST_PIXELS = 480, 1600
"""longer side of what is drawn"""
_TEXT_PIXELS = 13

Corners = Callable[[Element], Sequence[Sequence[float]]]
"""a mark -> the corners of its outline in pixels of the sample's picture, or its one point"""


def draw_marks(
    elements: Callable[[Json], list[Element] | None],
    corners: Corners,
    sample: Sample,
    answer: Json | None,
    label: Json | None,
) -> bytes:
    """PNG of the sample with the marks of the answer in orange and of the label in green.

    Raises:
        PayloadError: the sample cannot be read.
        AnnotationError: the answer or the label is no list of marks.
    """
    picture = open_picture(sample).convert("RGB")
    longer = max(picture.size)
    scale = min(max(1.0, _LEAST_PIXELS // longer), _MOST_PIXELS / longer)
    size = (max(1, round(picture.width * scale)), max(1, round(picture.height * scale)))
    how = Image.Resampling.NEAREST if scale > 1.0 else Image.Resampling.BILINEAR
    canvas = picture.resize(size, how)
    draw = ImageDraw.Draw(canvas)
    for given, colour, width in ((answer, _ANSWER, 3), (label, _LABEL, 1)):
        found = elements(given) if given is not None else []
        if found is None:
            raise AnnotationError(
                f"{given!r:.60} is no list of marks, so it is not drawn. Correct what gives it"
            )
        for one in found:
            places = [(x * scale, y * scale) for x, y in corners(one)]
            _outline(draw, places, colour, width)
            _name(draw, size, str(one["label"]), places, colour)
    buffer = io.BytesIO()
    canvas.save(buffer, "PNG")
    return buffer.getvalue()


def _outline(
    draw: ImageDraw.ImageDraw,
    places: Sequence[tuple[float, float]],
    colour: tuple[int, int, int],
    width: int,
) -> None:
    """Over a dark line, so that it is seen on a bright ground."""
    if len(places) == 1:
        [(x, y)] = places
        reach = 3 + 2 * width
        for start, end in (((x - reach, y), (x + reach, y)), ((x, y - reach), (x, y + reach))):
            draw.line([start, end], fill=_DARK, width=width + 2)
            draw.line([start, end], fill=colour, width=width)
        return
    closed = [*places, places[0], places[1]]
    draw.line(closed, fill=_DARK, width=width + 2)
    draw.line(closed, fill=colour, width=width)


def _name(
    draw: ImageDraw.ImageDraw,
    size: tuple[int, int],
    name: str,
    places: Sequence[tuple[float, float]],
    colour: tuple[int, int, int],
) -> None:
    """The answer's name above the mark and the label's below, inside of the picture."""
    left, top, right, bottom = draw.textbbox((0, 0), name, font=_font())
    lowest, highest = max(y for _, y in places), min(y for _, y in places)
    x = min(x for x, _ in places) + 2
    y = lowest + 3 if colour == _LABEL else highest - (bottom - top) - 3
    x = max(0.0, min(x, size[0] - (right - left)))
    y = max(0.0, min(y, size[1] - (bottom - top) - 1))
    draw.rectangle((x - 1, y - 1, x + right - left + 1, y + bottom - top + 1), fill=_DARK)
    draw.text((x - left, y - top), name, fill=colour, font=_font())


@cache
def _font() -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    """The font of matplotlib, which has letters beyond ASCII; found without loading matplotlib."""
    found = importlib.util.find_spec("matplotlib")
    for folder in (found.submodule_search_locations or []) if found is not None else []:
        path = Path(folder, "mpl-data", "fonts", "ttf", "DejaVuSans.ttf")
        if path.exists():
            return ImageFont.truetype(path, size=_TEXT_PIXELS)
    return ImageFont.load_default(_TEXT_PIXELS)
