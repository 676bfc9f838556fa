"""Places on a picture: Label Studio's percent of its sides and an answer's pixels.

Places are measured from the upper left corner of the picture, not from the middle of its first
pixel: a box of the whole picture begins at 0 and is as wide as the picture.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import NamedTuple

from flywheel.labeling.drawing import draw_marks
from flywheel.labeling.matching import Element, Matching
from flywheel.labeling.regions import Marking
from flywheel.labeling.views import Shown
from flywheel.pictures import picture_size
from flywheel.records import Json, Sample, is_number
from flywheel.task import Labeling

_DIGITS = 3
"""of a pixel, that answers have behind the point"""
_FARTHEST_PIXELS = 1e9
"""beyond lies no mark: areas of such numbers would overflow"""


class Size(NamedTuple):
    """Of a picture, in pixels."""

    width: int
    height: int


class Kind(NamedTuple):
    """A kind of mark on pictures; see `flywheel.labeling.regions.Marking` for the first four."""

    name: str
    noun: str
    tag: str
    attributes: str
    write: Callable[[Element, Size], dict[str, Json] | None]
    read: Callable[[Mapping[str, Json], Size], dict[str, Json]]
    corners: Callable[[Element], Sequence[Sequence[float]]]
    """what is drawn: a point, or the corners of an outline"""


def picture_labeling(
    kind: Kind, shown: Shown, labels: Sequence[str], question: str, matching: Matching
) -> Labeling:
    """The labeling of a kind of mark on pictures.

    Raises:
        TaskError: see `Marking.labeling`.
    """
    marking = Marking(
        name=kind.name,
        noun=kind.noun,
        tag=kind.tag,
        attributes=f' strokeWidth="2"{kind.attributes}',
        on="image",
        frame=_size,
        shared=_shared,
        write=kind.write,
        read=kind.read,
    )
    drawing = partial(draw_marks, matching.elements, kind.corners)
    return marking.labeling(shown, labels, question, matching, drawing)


def _size(sample: Sample) -> Size:
    return Size(*picture_size(sample))


def _shared(size: Size) -> dict[str, Json]:
    return {
        "original_width": size.width,
        "original_height": size.height,
        "image_rotation": 0,
    }


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
