"""Polygons on pictures, in pixels of the sample's picture.

There is no brush: its masks are sets of pixels, of which two annotators never give the same, and
each weighs as much as its picture. A polygon says where a thing ends in a few points.

Shapes: N and M polygons of two answers.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

from flywheel.labeling.matching import Element, Matching
from flywheel.labeling.places import Kind, Size, is_pair, percent, picture_labeling, pixels_at
from flywheel.labeling.views import Shown
from flywheel.records import Array, Json
from flywheel.task import Labeling

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
    kind = Kind(
        name="polygons",
        noun="polygon",
        tag="PolygonLabels",
        attributes="",
        write=_write,
        read=_read,
        corners=lambda polygon: polygon["points"],
    )
    return picture_labeling(kind, shown, labels, question, matching)


def _is_polygon(value: Json) -> bool:
    points = value.get("points") if isinstance(value, Mapping) and "label" in value else None
    return isinstance(points, list) and len(points) >= 3 and all(map(is_pair, points))


def _write(polygon: Element, size: Size) -> dict[str, Json] | None:
    points = [
        [percent(place, whole) for place, whole in zip(point, size, strict=True)]
        for point in polygon["points"]
    ]
    extents = [max(along) - min(along) for along in zip(*points, strict=True)]
    return {"points": points, "closed": True} if min(extents) > 0.0 else None


def _read(value: Mapping[str, Json], size: Size) -> dict[str, Json]:
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
    low, high = _ends(points)
    other_low, other_high = _ends(other_points)
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


def _ends(some: Sequence[Array]) -> tuple[Array, Array]:
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
