"""Draws an answer and a label over the sample's picture, for reports."""

from __future__ import annotations

import importlib.util
import io
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from flywheel.errors import AnnotationError
from flywheel.labeling.matching import Element
from flywheel.pictures import open_picture
from flywheel.records import Json, Sample

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
