"""Classes against classes: their numbers, the confusion matrix, and the calibration of confidences."""

from __future__ import annotations

from collections.abc import Sequence

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


def calibration_error(
    confidences: Sequence[float] | Array,
    correct: Sequence[float] | Array,
    weights: Array | None = None,
    *,
    bins: int = _BINS,
) -> float:
    """The expected calibration error over bins of equal width, 0 at best and 1 at worst.

    Formula: ECE = sum over bins of (its share of the weight) |accuracy - mean confidence|.
    Source: Naeini, Cooper and Hauskrecht (2015); 15 bins as in Guo et al. (2017), On Calibration of
    Modern Neural Networks.
    Bias: more bins, or fewer answers, find more error, also in a model that has none.

    >>> from flywheel.scoring import calibration_error
    >>> calibration_error([0.9, 0.9, 0.6, 0.6], [1, 1, 1, 0]).__round__(3)
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
    # A confidence on an edge belongs to the bin below it; 0 itself to the first.
    place = np.maximum(np.searchsorted(np.linspace(0.0, 1.0, bins + 1), sure, side="left") - 1, 0)
    totals, confident, accurate = (
        np.bincount(place, heavy * values, bins) for values in (np.ones(len(sure)), sure, right)
    )
    return float(np.abs(accurate - confident).sum() / totals.sum())
