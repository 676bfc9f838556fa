"""Weighted scores in, one number out: the aggregates that formulas are made of.

Weights are the one way to say which samples count and how often: 1 / inclusion probability, times
how often a resample drew a row. A row with weight 0 is absent, one with weight 2 is there twice. NaN
says "not defined here": no weight at all, no positive for a recall.

Shapes: N values, B rows of weights; (N,) scores and masks, (B, N) weights, (B,) out.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from flywheel.errors import TaskError
from flywheel.records import Array, Json, canonical

ScoreTable = dict[str, Array]
"""name of a score -> (N,) float64; ANSWER and LABEL -> (N,) object, texts of JSON"""

ANSWER, LABEL = "(answer)", "(label)"
"""columns of whole answers and labels, for metrics over them; no formula can name these"""


def answer_columns(answers: Sequence[Json], labels: Sequence[Json]) -> ScoreTable:
    """Whole answers and labels as columns of a table, by their canonical text.

    Raises:
        TaskError: an answer is not JSON.
    """
    columns: ScoreTable = {}
    for name, values in ((ANSWER, answers), (LABEL, labels)):
        columns[name] = np.empty(len(values), dtype=object)
        try:
            columns[name][:] = [canonical(value) for value in values]
        except (TypeError, ValueError) as error:
            raise TaskError(
                f"an {name.strip('()')} is not JSON ({error}); give numbers, texts, lists and dicts"
            ) from error
    return columns


_TOLERANCE = 1e-10


def weighted_mean(values: Array, weights: Array) -> Array:
    """The sum of w y over the sum of w (Hajek's mean when w = 1 / inclusion probability)."""
    return _ratio(weights @ values, weights.sum(axis=1))


def weighted_quantile(values: Array, level: float, weights: Array) -> Array:
    """The smallest value whose cumulative weight reaches `level` of the total.

    When it is reached exactly, the mean of that value and the next one, so that the unweighted
    median is NumPy's. With whole weights it is `np.quantile(np.repeat(values, weights), level,
    method="averaged_inverted_cdf")`, definition 2 of Hyndman and Fan 1996. "Exactly" means
    within 1e-10 of the total, the rounding of a long sum.
    """
    if not values.size:
        return np.full(len(weights), np.nan)
    order = np.argsort(values, kind="stable")
    is_sorted = bool((order[:-1] < order[1:]).all())
    reached = np.cumsum(weights if is_sorted else weights[:, order], axis=1)
    total = reached[:, -1]
    first = (reached < ((level - _TOLERANCE) * total)[:, None]).sum(axis=1)
    last = (reached <= ((level + _TOLERANCE) * total)[:, None]).sum(axis=1)
    ends = np.minimum(np.stack([first, last]), values.size - 1)
    return np.where(total > 0, values[order][ends].mean(axis=0), np.nan)


def f_beta(predicted: Array, actual: Array, weights: Array, beta: float) -> Array:
    """F-beta of boolean masks; the precision for beta = 0, the recall for beta = inf.

    Formula: TP / (p P + (1 - p) A) with p = 1 / (1 + beta^2), P what is predicted positive and A
    what is: (1 + beta^2) P R / (beta^2 P + R) of van Rijsbergen 1979, where both are defined.
    Departure: NaN, not 0, when the denominator is 0; scikit-learn warns and gives 0.
    """
    hit, positive, true = (
        weights @ mask.astype(np.float64) for mask in (predicted & actual, predicted, actual)
    )
    share = 1 / (1 + beta**2)
    return _ratio(hit, share * positive + (1 - share) * true)


def micro_f_beta(hits: Array, extra: Array, missed: Array, weights: Array, beta: float) -> Array:
    """F-beta of counts a sample, summed over all samples: of boxes, spans or labels.

    Formula: H / (H + p E + (1 - p) M) with p = 1 / (1 + beta^2) and the weighted sums of hits,
    of what is answered and not there, and of what is there and not answered; the precision for
    beta = 0, the recall for beta = inf. NaN, not 0, when the denominator is 0.
    Source: as `f_beta`; micro-averaged, Manning, Raghavan and Schuetze (2008), section 13.6.
    """
    share = 1 / (1 + beta**2)
    found = weights @ hits
    return _ratio(found, found + share * (weights @ extra) + (1 - share) * (weights @ missed))


def macro_f_beta(predicted: Array, actual: Array, weights: Array, beta: float) -> Array:
    """The mean over the classes of their F-beta, each class against the rest.

    Classes that are neither predicted nor there in a row of weights do not count in it. One
    whose own F-beta has the denominator 0, the precision of what is never predicted, counts as 0.
    Source: scikit-learn's macro average, and torchmetrics'.
    """
    total, number = np.zeros(len(weights)), np.zeros(len(weights))
    for one in np.union1d(predicted, actual):
        is_predicted, is_actual = predicted == one, actual == one
        present = weights @ (is_predicted | is_actual).astype(np.float64) > 0
        total += np.nan_to_num(f_beta(is_predicted, is_actual, weights, beta))
        number += present
    return _ratio(total, number)


def average_precision(ranking: Array, actual: Array, weights: Array) -> Array:
    """The area under the precision-recall steps of a ranking, best first.

    Formula: sum over distinct ranking scores of (R_n - R_(n-1)) P_n; ties count together. It is
    `sklearn.metrics.average_precision_score`, which has no interpolation.
    Departure: NaN, not 0, without a positive.
    """
    return _precision_steps(ranking, actual, weights, weights @ actual.astype(np.float64))


def mean_average_precision(
    predicted: Array, actual: Array, confidence: Array, weights: Array
) -> Array:
    """The mean of the average precision over the classes that are present in `actual`.

    For a class, the samples that are predicted to be of it are ranked by confidence; a hit is one
    that is of it; the recall is over all that are of it, so those predicted to be something else
    are missed for good. A class without weight in a row of weights is not present there.
    """
    total, number = np.zeros(len(weights)), np.zeros(len(weights))
    for one in np.unique(actual):
        chosen = predicted == one
        present = weights @ (actual == one).astype(np.float64)
        area = _precision_steps(
            confidence[chosen], actual[chosen] == one, weights[:, chosen], present
        )
        total += np.where(present > 0, area, 0.0)
        number += present > 0
    return _ratio(total, number)


def _precision_steps(ranking: Array, hits: Array, weights: Array, positives: Array) -> Array:
    """The area for a ranking that may leave some of the positives (B,) out."""
    if not ranking.size:
        return _ratio(np.zeros(len(weights)), positives)
    order = np.argsort(-ranking, kind="stable")
    starts = np.flatnonzero(np.diff(ranking[order], prepend=np.inf))
    ranked = weights[:, order]
    seen = np.cumsum(np.add.reduceat(ranked, starts, axis=1), axis=1)
    found = np.add.reduceat(ranked * hits[order], starts, axis=1)
    precision = np.divide(np.cumsum(found, axis=1), seen, out=np.zeros_like(seen), where=seen > 0)
    return _ratio((found * precision).sum(axis=1), positives)


def _ratio(above: Array, below: Array) -> Array:
    """NaN where there is nothing to divide by."""
    missing = np.full(len(below), np.nan)
    result: Array = np.divide(above, below, out=missing, where=below > 0)
    return result
