"""Boxes, keypoints and polygons on pictures, in pixels of the sample's picture.

Label Studio counts in percent of the picture, so it does not matter how large annotators saw it.
There is no brush: its masks are sets of pixels, of which two annotators never give the same, and
each weighs as much as its picture. A polygon says where a thing ends in a few points.

Shapes: N and M marks of two answers.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

from flywheel.errors import TaskError
from flywheel.labeling.matching import Element, Matching, mean_of
from flywheel.labeling.places import (
    ON_PICTURES,
    Size,
    draw_marks,
    has_numbers,
    is_pair,
    percent,
    pixels_at,
)
from flywheel.labeling.regions import Marking
from flywheel.labeling.views import Shown
from flywheel.records import Array, Json, is_number
from flywheel.scoring.boxes import box_ious as ious_of
from flywheel.task import Labeling

_LEAST_PIXELS = 0.01
"""side of a box that is drawn"""
_POINT_PERCENT = 0.8
"""radius of a keypoint on the annotator's screen"""


def boxes(
    shown: Shown,
    labels: Sequence[str],
    *,
    question: str = "",
    iou: float = 0.5,
    share: float = 0.8,
) -> Labeling:
    """Ask for a box around every thing; no box is an answer, too.

    The answer is a list of {"label", "x", "y", "width", "height"}: left, top and size in pixels.
    Further keys of a model's boxes are left alone; Label Studio shows a confidence as their score.

    Args:
        shown: an image.
        labels: the kinds of things.
        question: one line above the picture.
        iou: of two boxes with one label, from which they are the same: the area that they share,
            over the area of both together.
        share: of the boxes of two answers that are the same, from which the answers agree.

    ```python
    from flywheel.labeling import boxes, image

    labeling = boxes(image(), ["screw", "nut"])
    one = [{"label": "nut", "x": 10, "y": 20, "width": 40, "height": 40}]
    other = [{"label": "nut", "x": 14, "y": 20, "width": 40, "height": 40}]
    assert labeling.agree(one, other)
    assert labeling.merge([one, other])[0]["x"] == 12
    ```
    """
    matching = Matching(
        is_element=_is_box, likeness=box_ious, mean=_mean_place, least=iou, share=share
    )
    marking = Marking(
        **ON_PICTURES,
        name="boxes",
        noun="box",
        tag="RectangleLabels",
        attributes=' strokeWidth="2" canRotate="false"',
        write=_write_box,
        read=_read_box,
    )
    drawing = partial(draw_marks, matching.elements, _corners_of)
    return marking.labeling(shown, labels, question, matching, drawing)


def keypoints(
    shown: Shown,
    labels: Sequence[str],
    *,
    question: str = "",
    within_pixels: float = 5.0,
    share: float = 0.8,
) -> Labeling:
    """Ask for points; a point that cannot be seen is left out.

    The answer is a list of {"label", "x", "y"} in pixels.

    Args:
        shown: an image.
        labels: the points.
        question: one line above the picture.
        within_pixels: up to this distance two points with one label are the same.
        share: of the points of two answers that are the same, from which the answers agree.

    ```python
    from flywheel.labeling import image, keypoints

    labeling = keypoints(image(), ["left eye", "right eye"], within_pixels=4)
    one, other = ([{"label": "left eye", "x": x, "y": 30}] for x in (50, 53))
    assert labeling.agree(one, other)
    assert labeling.merge([one, other]) == [{"label": "left eye", "x": 51.5, "y": 30}]
    ```
    """
    if not is_number(within_pixels) or within_pixels <= 0.0:
        raise TaskError(f"keypoints within {within_pixels!r} pixels cannot agree. Give more than 0")
    matching = Matching(
        is_element=_is_point,
        likeness=partial(_nearness, within_pixels),
        mean=_mean_place,
        least=0.5,
        share=share,
    )
    marking = Marking(
        **ON_PICTURES,
        name="keypoints",
        noun="keypoint",
        tag="KeyPointLabels",
        attributes=' strokeWidth="2"',
        write=_write_point,
        read=_read_point,
    )
    drawing = partial(draw_marks, matching.elements, lambda point: [(point["x"], point["y"])])
    return marking.labeling(shown, labels, question, matching, drawing)


def _is_box(value: Json) -> bool:
    is_box = has_numbers(value, "x", "y", "width", "height")
    return is_box and value["width"] > 0 and value["height"] > 0


def _is_point(value: Json) -> bool:
    return has_numbers(value, "x", "y")


def _write_box(box: Element, size: Size) -> dict[str, Json] | None:
    left, top = percent(box["x"], size.width), percent(box["y"], size.height)
    width = percent(box["x"] + box["width"], size.width) - left
    height = percent(box["y"] + box["height"], size.height) - top
    if min(width * size.width, height * size.height) < 100.0 * _LEAST_PIXELS:
        return None
    return {"x": left, "y": top, "width": width, "height": height, "rotation": 0}


def _read_box(value: Mapping[str, Json], size: Size) -> dict[str, Json]:
    if value.get("rotation") not in (None, 0):
        raise ValueError(f"turned by {value['rotation']} degrees. Draw it upright")
    edges = dict(value)
    for side, start in (("width", "x"), ("height", "y")):
        if is_number(value.get(side)) and is_number(value.get(start)):
            edges[side] = value[start] + value[side]
    x, y = pixels_at(edges, "x", size.width), pixels_at(edges, "y", size.height)
    width = round(pixels_at(edges, "width", size.width) - x, 3)
    height = round(pixels_at(edges, "height", size.height) - y, 3)
    if min(width, height) <= 0.0:
        raise ValueError(f"of {width:g} x {height:g} pixels. Draw it again, or delete it")
    return {"x": x, "y": y, "width": width, "height": height}


def _write_point(point: Element, size: Size) -> dict[str, Json] | None:
    if not (0 <= point["x"] <= size.width and 0 <= point["y"] <= size.height):
        return None
    places = {"x": percent(point["x"], size.width), "y": percent(point["y"], size.height)}
    return {**places, "width": _POINT_PERCENT}


def _read_point(value: Mapping[str, Json], size: Size) -> dict[str, Json]:
    return {"x": pixels_at(value, "x", size.width), "y": pixels_at(value, "y", size.height)}


def _mean_place(marks: Sequence[Element]) -> dict[str, Any]:
    """Boxes or points -> the mean of every number."""
    names = [name for name in ("x", "y", "width", "height") if name in marks[0]]
    places = {name: mean_of([mark[name] for mark in marks]) for name in names}
    return {"label": marks[0]["label"], **places}


def _corners_of(box: Element) -> list[tuple[float, float]]:
    left, top = box["x"], box["y"]
    right, bottom = left + box["width"], top + box["height"]
    return [(left, top), (right, top), (right, bottom), (left, bottom)]


def box_ious(ones: Sequence[Element], others: Sequence[Element]) -> Array:
    """(N, M) intersection over union of boxes, 0..1."""
    sides = ("x", "y", "width", "height")
    return ious_of(
        *(np.array([[one[side] for side in sides] for one in some]) for some in (ones, others))
    )


def _nearness(within: float, ones: Sequence[Element], others: Sequence[Element]) -> Array:
    """(N, M) of 0..1: 1 at no distance, 0.5 at that within which points are the same."""
    places, other_places = (
        np.array([[mark["x"], mark["y"]] for mark in marks], dtype=np.float64)
        for marks in (ones, others)
    )
    distance = np.linalg.norm(places[:, None] - other_places, axis=2)
    found: Array = np.clip(1.0 - 0.5 * distance / within, 0.0, 1.0)
    return found


_GRID = 128
"""pixels of a side on which two polygons are compared"""


def polygons(
    shown: Shown,
    labels: Sequence[str],
    *,
    question: str = "",
    iou: float = 0.5,
    share: float = 0.8,
) -> Labeling:
    """Ask for the outline of every thing; no outline is an answer, too.

    The answer is a list of {"label", "points"}, at least three points [x, y] in pixels. Of those
    that are the same, the one that is most like all others stands for them.

    Args:
        shown: an image.
        labels: the kinds of things.
        question: one line above the picture.
        iou: as of `boxes`, counted on a grid of 128 x 128.
        share: of the polygons of two answers that are the same, from which the answers agree.

    ```python
    from flywheel.labeling import image, polygons

    labeling = polygons(image(), ["leaf"])
    one = [{"label": "leaf", "points": [[0, 0], [40, 0], [40, 40]]}]
    other = [{"label": "leaf", "points": [[0, 0], [44, 0], [40, 40]]}]
    assert labeling.agree(one, other)
    ```
    """
    matching = Matching(
        is_element=_is_polygon,
        likeness=polygon_ious,
        mean=_most_alike,
        least=iou,
        share=share,
    )
    marking = Marking(
        **ON_PICTURES,
        name="polygons",
        noun="polygon",
        tag="PolygonLabels",
        attributes=' strokeWidth="2"',
        write=_write_polygon,
        read=_read_polygon,
    )
    drawing = partial(draw_marks, matching.elements, lambda polygon: polygon["points"])
    return marking.labeling(shown, labels, question, matching, drawing)


def _is_polygon(value: Json) -> bool:
    points = value.get("points") if isinstance(value, Mapping) and "label" in value else None
    return isinstance(points, list) and len(points) >= 3 and all(map(is_pair, points))


def _write_polygon(polygon: Element, size: Size) -> dict[str, Json] | None:
    points = [
        [percent(place, whole) for place, whole in zip(point, size, strict=True)]
        for point in polygon["points"]
    ]
    extents = [max(along) - min(along) for along in zip(*points, strict=True)]
    return {"points": points, "closed": True} if min(extents) > 0.0 else None


def _read_polygon(value: Mapping[str, Json], size: Size) -> dict[str, Json]:
    points = value.get("points")
    if not isinstance(points, list) or len(points) < 3 or not all(map(is_pair, points)):
        number = len(points) if isinstance(points, list) else 0
        raise ValueError(f"of {number} points. Draw at least three, or delete it")
    named = [{"x": x, "y": y} for x, y in points]
    return {
        "points": [
            [pixels_at(point, "x", size.width), pixels_at(point, "y", size.height)]
            for point in named
        ]
    }


def polygon_ious(ones: Sequence[Element], others: Sequence[Element]) -> Array:
    """(N, M) intersection over union of polygons, each pair on a grid over both, 0..1."""
    points, other_points = (
        [np.array(one["points"], dtype=np.float64) for one in some] for some in (ones, others)
    )
    low, high = _extents(points)
    other_low, other_high = _extents(other_points)
    meet = (low[:, None] <= other_high).all(axis=2) & (other_low <= high[:, None]).all(axis=2)
    found = np.zeros(meet.shape)
    for row, column in np.argwhere(meet):
        start = np.minimum(low[row], other_low[column])
        size = np.maximum(high[row], other_high[column]) - start
        scale = (_GRID - 1) / np.maximum(size, 1e-9)
        inside = _filled((points[row] - start) * scale)
        other_inside = _filled((other_points[column] - start) * scale)
        shared = np.count_nonzero(inside & other_inside)
        found[row, column] = shared / np.count_nonzero(inside | other_inside)
    return found


def _extents(some: Sequence[Array]) -> tuple[Array, Array]:
    """(N, 2) upper left and lower right corners of the boxes around polygons."""
    low, high = [one.min(axis=0) for one in some], [one.max(axis=0) for one in some]
    return np.array(low), np.array(high)


def _filled(points: Array) -> Array:
    """(128, 128) bool, the inside and the edge of a polygon; never none of it."""
    grid = Image.new("1", (_GRID, _GRID))
    ImageDraw.Draw(grid).polygon([(x, y) for x, y in points.tolist()], fill=1, outline=1)
    return np.asarray(grid)


def _most_alike(some: Sequence[Element]) -> dict[str, Any]:
    """The polygon with the greatest sum of overlaps with the others; the first of two such."""
    most = int(polygon_ious(some, some).sum(axis=1).argmax()) if len(some) > 2 else 0
    return {"label": some[most]["label"], "points": some[most]["points"]}
