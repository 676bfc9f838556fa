"""The map of production: the newest samples where the model that serves places them, each a link to its life.

Two principal components, since they need no fit that another look would change, so that an address may name a
part of the map; the share of the variance that they hold says how much of the picture is lost. (UMAP took
seconds for as many samples, and draws another map with each of its versions.)
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

import numpy as np

from flywheel.errors import TaskError, UserError
from flywheel.ledger.browse import Seen, cases_of, newest_embeddings
from flywheel.loop import Loop
from flywheel.loop.measuring import right_by_label
from flywheel.records import Array
from flywheel.report.kit import text

_SAMPLES = 1_000
_FEWEST = 3
_CHUNK = 500
_CORNERS = 64
_GRID = (4, 3)
"""parts of the map across and down, for those who draw around nothing"""
_EDGE = 0.01
"""by which the outer parts reach beyond the outermost samples"""
KINDS = {
    "other": "other",
    "suspect": "suspect",
    "chosen": "chosen",
    "labeled": "labeled",
    "right": "labeled, the answer was right",
    "wrong": "labeled, the answer was wrong",
}
"""what a point may be, in words, in the order in which they are drawn"""


class Point(NamedTuple):
    """A sample on the map."""

    sample_id: str
    kind: str
    x: float
    y: float
    """0..1 each"""
    said: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Map:
    """The newest samples of the model that answered last."""

    points: tuple[Point, ...]
    """newest first"""
    upto: int
    """place in the log of the newest one: an address with it names the same map later"""
    legend: tuple[tuple[str, str, int], ...]
    """kind, what it is in words, and number of points"""
    held: float
    """0..1, share of the variance that the two axes hold"""
    model_digest: str
    fault: str
    """why there is no map; "": there is"""

    @property
    def drawn(self) -> list[Point]:
        """Return the points in the order in which they are drawn."""
        return sorted(self.points, key=lambda point: list(KINDS).index(point.kind))

    @property
    def parts(self) -> list[list[tuple[int, str]]]:
        """Return the number of samples in each part of a grid, and the area of it; rows from the top."""
        across, down = (np.linspace(-_EDGE, 1 + _EDGE, number + 1) for number in _GRID)
        found = []
        for low, high in list(pairwise(down.tolist()))[::-1]:
            row = []
            for left, right in pairwise(across.tolist()):
                corners = ((left, low), (right, low), (right, high), (left, high))
                area = " ".join(f"{x:.3f},{y:.3f}" for x, y in corners)
                row.append((len(self.inside(area)), area))
            found.append(row)
        return found

    def inside(self, area: str) -> list[str]:
        """Return the samples in a polygon, `x,y x,y ...` in 0..1 from the left lower corner, newest first.

        Formula: a point is inside if a ray to its right crosses an odd number of edges.
        """
        corners = read_corners(area)
        places = np.array([(point.x, point.y) for point in self.points]).reshape(-1, 2, 1)
        x, y = places[:, 0], places[:, 1]
        (x1, y1), (x2, y2) = corners.T, np.roll(corners, -1, axis=0).T
        crosses = (y1 > y) != (y2 > y)
        rise = np.where(y1 == y2, 1.0, y2 - y1)  # a level edge crosses no ray
        odd = (crosses & (x < x1 + (y - y1) * (x2 - x1) / rise)).sum(axis=1) % 2 == 1
        return [self.points[place].sample_id for place in np.flatnonzero(odd).tolist()]


def read_corners(area: str) -> Array:
    """Return the (N, 2) corners of an area.

    Raises:
        UserError: it is no polygon of 3 to 64 corners on the map.
    """
    try:
        corners = np.array([[float(one) for one in pair.split(",")] for pair in area.split()])
        is_area = corners.ndim == 2 and corners.shape[1] == 2 and 3 <= len(corners) <= _CORNERS
        is_area = is_area and bool((np.abs(corners - 0.5) <= 0.5 + 2 * _EDGE).all())
    except ValueError:
        is_area = False
    if not is_area:
        raise UserError(
            f"area is {area[:100]!r}, which is no part of the map. Give 3 to {_CORNERS} corners such as "
            "0.1,0.1 0.5,0.1 0.3,0.6, or draw around samples on the map."
        )
    return corners


def read_map(loop: Loop, upto: int | None = None, *, is_judged: bool = False) -> Map:
    """Read and place the newest samples; with `upto` those up to that place in the log.

    If it is judged, points say whether answers were right by their labels, which scores them all.
    """
    with loop.ledger.read() as connection:
        rows = newest_embeddings(connection, _SAMPLES, upto)
        digest = rows[0].model_digest if rows else ""
        found = {
            row.sample_id: row.embedding
            for row in rows
            if row.model_digest == digest and np.isfinite(row.embedding).all()
        }
        ids = list(found)
        seen: dict[str, Seen] = {}
        for start in range(0, len(ids), _CHUNK):
            seen |= cases_of(connection, ids[start : start + _CHUNK])
    placed, held = _placed(np.stack(list(found.values()))) if found else (np.zeros((0, 2)), 0.0)
    if len(found) < _FEWEST or held == 0.0:
        fault = f"{len(found)} samples with different embeddings were predicted by the newest model"
        fault += (
            f"; {_FEWEST} are needed. Send traffic to /predict, or return embeddings in the task."
        )
        return Map(points=(), upto=0, legend=(), held=0.0, model_digest=digest, fault=fault)
    right = _right(loop, seen) if is_judged else {}
    points = [
        Point(key, _kind(seen[key], right.get(key)), float(x), float(y), _said(seen[key]))
        for key, (x, y) in zip(ids, placed, strict=True)
    ]
    counts = Counter(point.kind for point in points)
    return Map(
        points=tuple(points),
        upto=rows[0].place,
        legend=tuple((kind, words, counts[kind]) for kind, words in KINDS.items() if counts[kind]),
        held=held,
        model_digest=digest,
        fault="",
    )


def _placed(embeddings: Array) -> tuple[Array, float]:
    """Return (N, 2) places in 0..1 along the first two principal components, and the variance they hold."""
    centered = embeddings.astype(np.float64) - embeddings.mean(axis=0, dtype=np.float64)
    number, width = centered.shape
    # The smaller of the two products has the same directions, and few of them.
    is_tall = number >= width
    sizes, directions = np.linalg.eigh(centered.T @ centered if is_tall else centered @ centered.T)
    total = float(sizes.clip(0).sum())
    if total <= 1e-12 * float((embeddings.astype(np.float64) ** 2).sum()):
        return np.zeros((number, 2)), 0.0
    places = np.zeros((number, 2))
    for axis in range(min(2, len(sizes))):
        direction = directions[:, -1 - axis]
        places[:, axis] = (
            centered @ direction if is_tall else direction * sizes[-1 - axis].clip(0) ** 0.5
        )
    places *= np.where(places.sum(axis=0) - number * np.median(places, axis=0) < 0, -1.0, 1.0)
    low, high = places.min(axis=0), places.max(axis=0)
    span = np.where(high > low, high - low, 1.0)
    return (places - low) / span, float(sizes[-2:].clip(0).sum()) / total


def _right(loop: Loop, seen: Mapping[str, Seen]) -> dict[str, bool]:
    """Return whether each labeled answer was right; empty where the task scores one of them no more."""
    cases = [one.case for one in seen.values()]
    known = {
        case.sample_id: (case.answer, case.label.answer) for case in cases if case.label is not None
    }
    try:
        return right_by_label(loop, known)
    except TaskError:
        return {}


def _kind(seen: Seen, is_right: bool | None) -> str:
    if seen.case.label is not None:
        return {None: "labeled", True: "right", False: "wrong"}[is_right]
    if seen.case.share is not None:
        return "chosen"
    return "suspect" if seen.case.state is not None else "other"


def _said(seen: Seen) -> str:
    case = seen.case
    label = f", label {text.answer(case.label.answer)}" if case.label is not None else ""
    return f"{text.answer(case.answer)}, confidence {text.number(case.confidence)}{label}"
