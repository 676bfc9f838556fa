"""Classes against classes: confusion matrix, precision and recall of each class, F1, calibration."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from flywheel.errors import AnnotationError
from flywheel.records import Array, Json, canonical

_BINS = 15


def numbered(classes: Sequence[Json]) -> dict[str, int]:
    """The number of each class, from 0, by its canonical text.

    Raises:
        ValueError: there are fewer than two, or one is there twice.
    """
    numbers = {canonical(one): number for number, one in enumerate(classes)}
    if len(classes) < 2 or len(numbers) < len(classes):
        raise ValueError(f"the classes {list(classes)!r:.80} are not two or more different ones")
    return numbers


def are_classes(labels: Sequence[Json]) -> bool:
    """Whether labels are texts or yes and no: two or more, each twice or more often on average."""
    number = len(labels)
    return (
        all(isinstance(one, (str, bool)) for one in labels) and 4 <= 2 * len(set(labels)) <= number
    )


def number_of(value: Json, numbers: dict[str, int]) -> int:
    """The number of a class.

    Raises:
        AnnotationError: it is none of the classes.
    """
    text = canonical(value)
    if text not in numbers:
        raise AnnotationError(
            f"{value!r:.60} is no class of this task; give one of {', '.join(numbers):.200}"
        )
    return numbers[text]


def confusion_matrix(
    answers: Sequence[Json],
    labels: Sequence[Json],
    classes: Sequence[Json],
    weights: Array | None = None,
) -> Array:
    """How often each class (row) was answered as each class (column): (K, K) float64.

    >>> from flywheel.scoring import confusion_matrix
    >>> confusion_matrix(["a", "b", "b"], ["a", "a", "b"], ["a", "b"])
    array([[1., 1.],
           [0., 1.]])

    Raises:
        AnnotationError: an answer or a label is none of the classes.
    """
    numbers = numbered(classes)
    places = [
        (number_of(label, numbers), number_of(answer, numbers))
        for answer, label in zip(answers, labels, strict=True)
    ]
    matrix = np.zeros((len(classes), len(classes)))
    rows, columns = np.array(places, dtype=np.int64).reshape(-1, 2).T
    np.add.at(matrix, (rows, columns), 1.0 if weights is None else np.asarray(weights))
    return matrix


@dataclass(frozen=True, kw_only=True, slots=True)
class ClassScore:
    """How well one class is recognized."""

    name: Json
    precision: float | None
    """None: the class was never answered"""
    recall: float | None
    """None: no label is of the class"""
    f1: float | None
    """None: neither"""
    support: float
    """weight of the labels of the class"""


def per_class(
    answers: Sequence[Json],
    labels: Sequence[Json],
    classes: Sequence[Json],
    weights: Array | None = None,
) -> tuple[ClassScore, ...]:
    """Precision, recall and F1 of each class against the rest, in the order of the classes.

    Source: `flywheel.metrics.scores.f_beta` has the formula.

    >>> from flywheel.scoring import per_class
    >>> [(one.name, one.precision, one.recall) for one in per_class("abb", "aab", "ab")]
    [('a', 1.0, 0.5), ('b', 0.5, 1.0)]

    Raises:
        AnnotationError: an answer or a label is none of the classes.
    """
    matrix = confusion_matrix(answers, labels, list(classes), weights)
    found = []
    for place, name in enumerate(classes):
        hits, answered, true = matrix[place, place], matrix[:, place].sum(), matrix[place].sum()
        found.append(
            ClassScore(
                name=name,
                precision=float(hits / answered) if answered else None,
                recall=float(hits / true) if true else None,
                f1=f1_score(hits, answered - hits, true - hits),
                support=float(true),
            )
        )
    return tuple(found)


def f1_score(num_hits: float, num_extra: float, num_missed: float) -> float | None:
    """The harmonic mean of precision and recall, from counts; None when all are 0.

    Formula: 2 H / (2 H + E + M), with what was found, what was answered and is not there, and what
    is there and was not answered. Source: van Rijsbergen 1979.

    >>> from flywheel.scoring import f1_score
    >>> f1_score(num_hits=3, num_extra=1, num_missed=1)
    0.75
    """
    total = 2 * num_hits + num_extra + num_missed
    return float(2 * num_hits / total) if total else None


@dataclass(frozen=True, kw_only=True, slots=True)
class CalibrationBin:
    """Answers of about the same confidence."""

    low: float
    """the confidences lie above this and up to `high`; 0 itself is in the first bin"""
    high: float
    weight: float
    confidence: float | None
    """mean; None: no answer is in it"""
    accuracy: float | None
    """share that is right"""


@dataclass(frozen=True, kw_only=True, slots=True)
class Calibration:
    """Whether a confidence is the chance to be right."""

    ece: float
    """expected calibration error, 0 at best and 1 at worst"""
    bins: tuple[CalibrationBin, ...]


def calibration(
    confidences: Sequence[float] | Array,
    correct: Sequence[float] | Array,
    weights: Array | None = None,
    *,
    bins: int = _BINS,
) -> Calibration:
    """The expected calibration error and its bins, of equal width over 0..1.

    Formula: ECE = sum over bins of (its share of the weight) |accuracy - mean confidence|.
    Source: Naeini, Cooper and Hauskrecht (2015); 15 bins as in Guo et al. (2017), On Calibration of
    Modern Neural Networks.
    Bias: more bins, or fewer answers, find more error, also in a model that has none.

    >>> from flywheel.scoring import calibration
    >>> calibration([0.9, 0.9, 0.6, 0.6], [1, 1, 1, 0]).ece.__round__(3)
    0.1

    Args:
        confidences: (N,) in 0..1.
        correct: (N,) 0 or 1.
        weights: (N,), 1 / inclusion probability; None weighs all equally.
        bins: number of bins.

    Raises:
        ValueError: there is no answer, or a confidence outside of 0..1.
    """
    sure, right = np.asarray(confidences, np.float64), np.asarray(correct, np.float64)
    heavy = np.ones(len(sure)) if weights is None else np.asarray(weights, np.float64)
    if not len(sure) or not ((sure >= 0) & (sure <= 1)).all():
        raise ValueError(
            f"{len(sure)} confidences, from {min(sure, default=0):g} to {max(sure, default=0):g}; "
            "give at least one, all of them in 0..1"
        )
    edges = np.linspace(0.0, 1.0, bins + 1)
    place = np.maximum(np.searchsorted(edges, sure, side="left") - 1, 0)
    totals, confident, accurate = (
        np.bincount(place, heavy * values, bins) for values in (np.ones(len(sure)), sure, right)
    )
    found = [
        CalibrationBin(
            low=float(low),
            high=float(high),
            weight=float(total),
            confidence=float(confidence / total) if total else None,
            accuracy=float(accuracy / total) if total else None,
        )
        for low, high, total, confidence, accuracy in zip(
            edges[:-1], edges[1:], totals, confident, accurate, strict=True
        )
    ]
    return Calibration(
        ece=float(np.abs(accurate - confident).sum() / totals.sum()), bins=tuple(found)
    )
