"""Boxes against boxes: IoU, one-to-one matching, and average precision as COCO defines it.

A box is a dict of label, x, y (its left upper corner), width and height, in pixels, and of an answer
a confidence, 1 where it has none. What a box matches does not depend on how samples are weighted, so
it is found once for all resamples of a bootstrap.

Shapes: N samples, D boxes of all answers of one class, G boxes of a label, T IoU thresholds, B rows
of weights.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

import numpy as np

from flywheel.errors import AnnotationError
from flywheel.records import Array, Json, is_number

_IOUS = tuple(np.linspace(0.5, 0.95, 10).tolist())
_NUM_RECALLS = 101
_MOST_BOXES = 100
_CHUNK_ELEMENTS = 50_000
_SLACK = 1e-9
_TINY = 1e-300
_SIDES = ("x", "y", "width", "height")


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Boxes:
    """The boxes of one answer or label, the most confident first."""

    labels: tuple[str, ...]
    sides: Array
    """(D, 4), x, y, width and height"""
    confidences: Array
    """(D,)"""
    places: Array
    """(D,) int64, where each stood in the answer"""


def read_boxes(value: Json) -> Boxes:
    """The boxes of an answer or a label; of equal confidence, they keep their order.

    Raises:
        AnnotationError: it is no list of boxes.
    """
    if not isinstance(value, list):
        raise AnnotationError(
            f"{value!r:.60} is no list of boxes; give one, [] where nothing is to be seen"
        )
    for box in value:
        _check_box(box)
    confidences = np.array([box.get("confidence", 1.0) for box in value], dtype=np.float64)
    sides = np.array([[box[side] for side in _SIDES] for box in value], dtype=np.float64)
    order = np.argsort(-confidences, kind="stable")
    return Boxes(
        labels=tuple(value[place]["label"] for place in order),
        sides=sides.reshape(-1, 4)[order],
        confidences=confidences[order],
        places=order,
    )


def _check_box(box: Json) -> None:
    if not isinstance(box, dict) or not isinstance(box.get("label"), str):
        raise AnnotationError(
            f"{box!r:.80} is no box; give a dict with label, x, y, width and height"
        )
    for name in (*_SIDES, "confidence"):
        number: Json = box.get(name, 1.0 if name == "confidence" else None)
        if not is_number(number):
            raise AnnotationError(f"a box has the {name} {number!r:.40}; give a finite number")
    if box["width"] < 0 or box["height"] < 0:
        raise AnnotationError(
            f"a box is {box['width']:g} wide and {box['height']:g} high; give sides of 0 or more, "
            "from the left upper corner"
        )


def box_ious(boxes: Array, others: Array) -> Array:
    """The intersection over union of each of (D, 4) boxes with each of (G, 4): (D, G).

    A box is x, y, width, height. Boxes that only touch, or have no area, share nothing: 0.

    >>> import numpy as np
    >>> from flywheel.scoring import box_ious
    >>> box_ious(np.array([[0.0, 0.0, 2.0, 2.0]]), np.array([[1.0, 0.0, 2.0, 2.0]])).round(3)
    array([[0.333]])
    """
    one, other = boxes[:, None, :], others[None, :, :]
    wide, high = (
        np.minimum(one[..., at] + one[..., at + 2], other[..., at] + other[..., at + 2])
        - np.maximum(one[..., at], other[..., at])
        for at in (0, 1)
    )
    shared = np.where((wide > 0) & (high > 0), wide * high, 0.0)
    union = one[..., 2] * one[..., 3] + other[..., 2] * other[..., 3] - shared
    ious: Array = np.divide(shared, union, out=np.zeros_like(shared), where=shared > 0)
    return ious


def match_boxes(answer: Json, label: Json, iou: float = 0.5) -> list[tuple[int, int]]:
    """Which box of an answer is which of the label, one to one: pairs of their places.

    Formula: within a class, the most confident box first, each takes the box of the label that is
    still free with the largest IoU, if that is at least `iou`.
    Source: COCO's evaluation code, Lin et al. (2014), Microsoft COCO.

    >>> from flywheel.scoring import match_boxes
    >>> seen = {"label": "cup", "x": 0, "y": 0, "width": 10, "height": 10}
    >>> match_boxes([{**seen, "x": 50}, {**seen, "x": 1, "confidence": 0.9}], [seen])
    [(1, 0)]

    Raises:
        AnnotationError: one of the two is no list of boxes.
    """
    found, true = read_boxes(answer), read_boxes(label)
    pairs = []
    for name in dict.fromkeys(found.labels):
        ours, theirs = _of_class(found, name), _of_class(true, name)
        matches = _match(box_ious(found.sides[ours], true.sides[theirs]), np.array([iou]))[0]
        pairs += [
            (int(found.places[ours[row]]), int(true.places[theirs[match]]))
            for row, match in enumerate(matches.tolist())
            if match >= 0
        ]
    return sorted(pairs)


def _of_class(boxes: Boxes, name: str) -> Array:
    return np.flatnonzero([label == name for label in boxes.labels])


def _match(ious: Array, thresholds: Array) -> Array:
    """(T, D) int64, the box of the label that each box takes; -1 for none. IoUs are (D, G)."""
    num_boxes, num_true = ious.shape
    taken = np.full((len(thresholds), num_boxes), -1)
    if not num_true or not num_boxes:
        return taken
    least = np.minimum(thresholds, 1 - 1e-10)[:, None]  # a box is itself for a threshold of 1, too
    free = np.ones((len(thresholds), num_true), dtype=bool)
    for row in np.flatnonzero(ious.max(axis=1) >= least.min()):
        fits = free & (ious[row] >= least)
        # The last of the best, as COCO's code takes it.
        best = num_true - 1 - np.where(fits, ious[row], -1.0)[:, ::-1].argmax(axis=1)
        takes = np.flatnonzero(fits.any(axis=1))
        taken[takes, row] = best[takes]
        free[takes, best[takes]] = False
    return taken


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class _Ranked:
    """The boxes of one class in all answers, the most confident first."""

    samples: Array
    """(D,) int64, the sample of each"""
    hits: Array
    """(T, D) boolean"""
    num_true: Array
    """(N,) float64, boxes of the class in each label"""


def _rank(answers: Sequence[Json], labels: Sequence[Json], ious: Sequence[float]) -> list[_Ranked]:
    """One for each class of the labels."""
    thresholds = np.array(ious, dtype=np.float64)
    found, true = [read_boxes(one) for one in answers], [read_boxes(one) for one in labels]
    classes = sorted({label for boxes in true for label in boxes.labels})
    num_true = {name: np.zeros(len(true)) for name in classes}
    parts: dict[str, list[tuple[int, Array, Array]]] = {
        name: [(0, np.zeros(0), np.zeros((len(ious), 0), dtype=bool))] for name in classes
    }
    for place, (ours, theirs) in enumerate(zip(found, true, strict=True)):
        for name in num_true.keys() & {*ours.labels, *theirs.labels}:
            mine, wanted = _of_class(ours, name)[:_MOST_BOXES], _of_class(theirs, name)
            num_true[name][place] = len(wanted)
            taken = _match(box_ious(ours.sides[mine], theirs.sides[wanted]), thresholds)
            parts[name].append((place, ours.confidences[mine], taken >= 0))
    return [_ranked(parts[name], num_true[name]) for name in classes]


def _ranked(parts: Sequence[tuple[int, Array, Array]], num_true: Array) -> _Ranked:
    """One class, from sample, confidences (D,) and hits (T, D) of each answer."""
    places, confidences, hits = zip(*parts, strict=True)
    order = np.argsort(-np.concatenate(confidences), kind="stable")
    samples = np.repeat(places, [len(one) for one in confidences])[order]
    return _Ranked(samples=samples, hits=np.concatenate(hits, axis=1)[:, order], num_true=num_true)


def _area(one: _Ranked, weights: Array) -> Array:
    """The average precision of a class under weights (B, N), the mean over thresholds: (B,).

    NaN where no box of the class has weight.
    """
    total, true = np.zeros(len(weights)), weights @ one.num_true
    is_there = true > 0
    # Whole weights are counts, whose recalls are compared as COCO's code does, to the last bit.
    slack = 0.0 if np.array_equal(weights, np.rint(weights)) else _SLACK
    most = np.where(is_there, true, np.inf) * (1 - slack)
    heavy = weights.T[one.samples]  # (D, B): sums run over the first axis, side by side
    seen = np.cumsum(heavy, axis=0)
    for hits in one.hits:
        rows = np.flatnonzero(hits)
        found = np.cumsum(heavy[rows], axis=0)
        recall = found / most
        precision = np.divide(found, np.maximum(seen[rows], _TINY), out=found)
        best = np.maximum.accumulate(precision[::-1], axis=0)[::-1]
        # How many of 0, 0.01, ..., 1 are reached: those below the nearest one, and maybe that one.
        nearest = np.rint(100 * recall)
        passed = nearest + (nearest * 0.01 <= recall)
        passed[1:] -= passed[:-1].copy()
        total += np.einsum("kb,kb->b", passed, best)
    return np.where(is_there, total / (_NUM_RECALLS * len(one.hits)), np.nan)


def _weigh(ranked: Sequence[_Ranked], weights: Array) -> Array:
    """The mean over the classes that are there, under weights (B, N): (B,)."""
    total, number = np.zeros(len(weights)), np.zeros(len(weights))
    for one in ranked:
        size = max(1, _CHUNK_ELEMENTS // max(len(one.samples), 1))
        for start in range(0, len(weights), size):
            part = slice(start, start + size)
            area = _area(one, weights[part])
            total[part] += np.nan_to_num(area)
            number[part] += ~np.isnan(area)
    missing = np.full(len(weights), np.nan)
    mean: Array = np.divide(total, number, out=missing, where=number > 0)
    return mean


_Metric = TypeVar("_Metric", bound=Callable[..., float])


def _of_formulas(ious: Sequence[float]) -> Callable[[_Metric], _Metric]:
    """What `flywheel.metrics.compiled.compile_formula` asks of a function, as its attributes."""

    def prepare(answers: Sequence[Json], labels: Sequence[Json]) -> Callable[[Array], Array]:
        return partial(_weigh, _rank(answers, labels, ious))

    def declare(metric: _Metric) -> _Metric:
        vars(metric).update(range=(0.0, 1.0), prepare=prepare)
        return metric

    return declare


@_of_formulas(_IOUS)
def mean_average_precision(
    answers: Sequence[Json],
    labels: Sequence[Json],
    weights: Array | None = None,
    *,
    ious: Sequence[float] = _IOUS,
) -> float:
    """COCO's mAP: the mean over the classes that the labels have, and over the IoU thresholds.

    Formula: of a class, AP = mean over the recalls r of 0, 0.01, ..., 1 of the largest precision at a recall
    of r or more, over the boxes of all samples, the most confident first; a hit is a box that matches,
    see `match_boxes`. The 100 most confident boxes of a sample count. No label is of a crowd.
    Source: COCO's evaluation code, area all, maxDets 100; Lin et al. (2014), Microsoft COCO.
    Departure: samples have weights; one of weight 2 is there twice, one after the other.

    >>> from flywheel.scoring import mean_average_precision
    >>> cup = {"label": "cup", "x": 0, "y": 0, "width": 10, "height": 10}
    >>> mean_average_precision([[cup], []], [[cup], [{**cup, "label": "pan"}]])
    0.5

    Returns:
        NaN when the labels have no box.

    Raises:
        AnnotationError: an answer or a label is no list of boxes.
    """
    rows = np.ones((1, len(labels))) if weights is None else np.asarray(weights, np.float64)[None]
    return float(_weigh(_rank(answers, labels, ious), rows)[0])


@_of_formulas([0.5])
def map_50(answers: Sequence[Json], labels: Sequence[Json], weights: Array | None = None) -> float:
    """COCO's AP50: `mean_average_precision` at an IoU of 0.5."""
    return mean_average_precision(answers, labels, weights, ious=[0.5])


@_of_formulas([0.75])
def map_75(answers: Sequence[Json], labels: Sequence[Json], weights: Array | None = None) -> float:
    """COCO's AP75: `mean_average_precision` at an IoU of 0.75."""
    return mean_average_precision(answers, labels, weights, ious=[0.75])
