"""The metric in production, estimated from logged answers and labels of known probability.

Labeled hard cases are not a random sample of production, but the probability share is. Both
numbers are reported, to show how far the first would mislead. Answers count as they were logged;
no model runs again.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import scipy

from flywheel.evaluate.intervals import by_cluster, kish_size, wilson_bounds
from flywheel.evaluate.stats import FEWEST_SAMPLES, Measured, estimate
from flywheel.metrics.compiled import Statistic
from flywheel.metrics.names import has_unit
from flywheel.metrics.scores import ScoreTable
from flywheel.records import Array, Estimate, ProductionEstimate

_TAIL = 0.025


@dataclass(frozen=True, kw_only=True, slots=True)
class Population:
    """The predictions from which the probability share of one batch was drawn."""

    size: int
    mean_confidence: float | None
    """None: not stored"""
    night: int
    unanswered: float = 0.0
    """sum of 1 / inclusion probability of the drawn samples that are finished without a label"""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Returned:
    """N labeled samples of a few batches, oldest batch first, with the logged answers' scores."""

    ids: tuple[str, ...] = field(repr=False)
    scores: ScoreTable = field(repr=False)
    """of the logged answers"""
    confidences: Array = field(repr=False)
    """(N,) logged"""
    probabilities: Array = field(repr=False)
    """(N,) inclusion probabilities in (0, 1]; NaN for targeted samples"""
    clusters: Array = field(repr=False)
    """(N,) int64; samples of one group share a number"""
    batches: Array = field(repr=False)
    """(N,) int64, index into populations"""
    populations: tuple[Population, ...]

    def where(self, chosen: Array) -> Returned:
        """The samples at which a boolean array (N,) is true."""
        return Returned(
            ids=tuple(name for name, keep in zip(self.ids, chosen, strict=True) if keep),
            scores={name: values[chosen] for name, values in self.scores.items()},
            confidences=self.confidences[chosen],
            probabilities=self.probabilities[chosen],
            clusters=self.clusters[chosen],
            batches=self.batches[chosen],
            populations=self.populations,
        )


def production_estimate(
    statistic: Statistic, returned: Returned, rng: np.random.Generator
) -> ProductionEstimate | None:
    """The metric in production with its interval; None below 5 labels of the probability share.

    Formula: batches are strata, Hajek's mean sum_b (N_b / N) sum_S(y / pi) / sum_S(1 / pi), so
    that a batch counts by its population and not by how many of its labels are back; written as
    weights w = (1 / pi) N_b / sum_S(1 / pi), under which any statistic is computed and
    `scipy.stats.estimate` gives the interval: Wilson's on the effective size for a rate, a bootstrap for
    anything but a mean. A batch without labels is left out, and one with fewer than 5 is joined with
    its neighbour. `assisted` is from `_assisted`. `naive` weighs all labels equally, including those
    of hard cases.
    Source: Hajek 1971; Saerndal, Swensson and Wretman, Model Assisted Survey Sampling, 1992.
    Departure: the interval ignores that the strata are balanced, which only makes it wider.
    Samples that annotators finished without a label count in `unanswered`; see `_bounds`.
    """
    drawn = returned.where(np.isfinite(returned.probabilities))
    if len(drawn.ids) < FEWEST_SAMPLES:
        return None
    weights = _weights(drawn)
    found = estimate(statistic, _measured(drawn, weights), rng)
    if found is None:
        return None
    used = [returned.populations[index] for index in np.unique(drawn.batches)]
    return ProductionEstimate(
        estimate=found,
        assisted=_assisted(statistic, drawn, weights),
        naive=estimate(statistic, _measured(returned, np.ones(len(returned.ids))), rng),
        num_population=sum(population.size for population in used),
        first_night=min(population.night for population in used),
        last_night=max(population.night for population in used),
        unanswered=(unanswered := _unanswered(drawn)),
        bounds=_bounds(statistic, drawn, found, unanswered),
    )


def _unanswered(drawn: Returned) -> float:
    """The share of production, 0..1, that samples without a label stand for.

    Formula: sum_b (N_b / N) m_b / (m_b + l_b), l_b and m_b the sums of 1 / pi of a batch's drawn
    samples with a label, and of those that are finished without one.
    """
    labeled = np.bincount(drawn.batches, 1 / drawn.probabilities, len(drawn.populations))
    missing = np.array([population.unanswered for population in drawn.populations])
    sizes = np.array([population.size for population in drawn.populations], dtype=np.float64)
    both = labeled + missing
    sizes[both == 0] = 0.0  # nothing of it is finished yet
    shares = np.divide(missing, both, out=np.zeros_like(both), where=both > 0)
    return float((sizes * shares).sum() / sizes.sum()) if sizes.sum() else 0.0


def _bounds(
    statistic: Statistic, drawn: Returned, found: Estimate, unanswered: float
) -> tuple[float, float] | None:
    """The interval if all unanswered samples were wrong, to if all were right.

    Formula: (1 - u) low to (1 - u) high + u. Source: Manski, Partial Identification, 2003.

    Returns:
        None when every sample is answered, or the metric is not the mean of a score in 0..1.
    """
    name = statistic.mean_of
    if not unanswered or name is None or has_unit(name):
        return None
    if not ((drawn.scores[name] >= 0) & (drawn.scores[name] <= 1)).all():
        return None
    return (1 - unanswered) * found.low, (1 - unanswered) * found.high + unanswered


def _measured(returned: Returned, weights: Array) -> Measured:
    return Measured(
        ids=returned.ids, scores=returned.scores, weights=weights, clusters=returned.clusters
    )


def _strata(batches: Array) -> Array:
    """(N,) stratum of each sample: its batch, joined with the next until it has 5 samples."""
    names, sizes = np.unique(batches, return_counts=True)
    stratum, filled, joined = 0, 0, dict[int, int]()
    left = len(batches)
    for name, size in zip(names.tolist(), sizes.tolist(), strict=True):
        joined[name] = stratum
        filled, left = filled + size, left - size
        # A stratum ends only if those that are left can fill another one.
        if filled >= FEWEST_SAMPLES and left >= FEWEST_SAMPLES:
            stratum, filled = stratum + 1, 0
    return np.array([joined[name] for name in batches.tolist()], dtype=np.int64)


def _weights(drawn: Returned) -> Array:
    """(N,) inverse probabilities, scaled to sum to the population of each stratum."""
    strata, inverse = _strata(drawn.batches), 1 / drawn.probabilities
    populations = np.zeros(strata.max() + 1)
    batches, first = np.unique(drawn.batches, return_index=True)
    for batch, row in zip(batches.tolist(), first.tolist(), strict=True):
        populations[strata[row]] += drawn.populations[batch].size
    return inverse * (populations / np.bincount(strata, inverse))[strata]


def _assisted(statistic: Statistic, drawn: Returned, weights: Array) -> Estimate | None:
    """The mean of a score in 0..1, with the confidences of all predictions as an auxiliary variable.

    Formula: lam mean_N(f) + Hajek_S(y - lam f), f the confidence, lam = Cov_w(y, f) / Var_w(f)
    clipped to 0..1; at 0 it is Hajek's mean, so an uninformative confidence costs nothing. The
    interval is Wilson's on n_eff = p (1 - p) / V, at most 4 n, with p Hajek's mean, which is 0 or
    1 only when all y are, and V from `_sampling_variance` of e = y - lam f plus
    (Var_w(y) - Var_w(e)) / N. When V is 0, n_eff is Kish's.
    Source: the difference estimator of Cassel, Saerndal and Wretman 1976; lam as in PPI++
    (Angelopoulos, Duchi and Zrnic 2023).
    Departure: no finite population factor 1 - pi, as in `intervals.wilson`; instead the last term of V,
    since mean_N(f) itself is estimated from N predictions.

    Returns:
        None when the metric is not the mean of a score in 0..1, or a mean confidence was not stored.
    """
    name = statistic.mean_of
    used = [drawn.populations[index] for index in np.unique(drawn.batches)]
    means = [
        population.mean_confidence for population in used if population.mean_confidence is not None
    ]
    if name is None or has_unit(name) or len(means) < len(used):
        return None
    shares, helps = drawn.scores[name], drawn.confidences
    if not ((shares >= 0) & (shares <= 1)).all():
        return None
    slope = _slope(shares, helps, weights)
    rest = shares - slope * helps
    sizes = [population.size for population in used]
    mean = float(np.average(means, weights=sizes))
    value = slope * mean + float(np.average(rest, weights=weights))
    explained = (_variance(shares, weights) - _variance(rest, weights)) / sum(sizes)
    num_fitted = 1 if slope == 0 else 2
    variance = _sampling_variance(rest, weights, drawn.clusters, num_fitted) + max(explained, 0.0)
    plain = float(np.average(shares, weights=weights))
    size = (
        min(plain * (1 - plain) / variance, 4.0 * len(weights))
        if variance > 0 and 0 < plain < 1
        else kish_size(by_cluster(weights, weights, drawn.clusters)[1])
    )
    value = min(max(value, 0.0), 1.0)
    low, high = wilson_bounds(value, size, _TAIL)  # which may miss the value itself
    return Estimate(
        value=value, low=min(low, value), high=max(high, value), num_samples=len(weights)
    )


def _slope(shares: Array, helps: Array, weights: Array) -> float:
    spread = _variance(helps, weights)
    if spread == 0:
        return 0.0
    centred = helps - np.average(helps, weights=weights)
    together = float(np.average(shares * centred, weights=weights))
    return min(max(together / spread, 0.0), 1.0)


def _variance(values: Array, weights: Array) -> float:
    return float(np.average((values - np.average(values, weights=weights)) ** 2, weights=weights))


def _sampling_variance(rest: Array, weights: Array, clusters: Array, num_fitted: int) -> float:
    """The sampling variance of the weighted mean of residuals, with k fitted parameters.

    Formula: max over single samples and clusters of sum (w e)^2 / (sum w)^2 * n / (n - k), e
    centred and (w e) summed within a cluster; with clusters times (t / z)^2, t Student's quantile
    with Kish's number of clusters - 1 degrees of freedom, as in `intervals.wilson`.
    """
    errors = rest - np.average(rest, weights=weights)
    means, totals = by_cluster(errors, weights, clusters)
    alone = _squares(errors, weights, num_fitted)
    if len(means) == len(errors):
        return alone
    freedom = max(kish_size(totals) - 1, 1.0)
    ratio = float(scipy.stats.t.isf(_TAIL, freedom) / scipy.stats.norm.isf(_TAIL))
    return max(alone, _squares(means, totals, num_fitted)) * ratio**2


def _squares(errors: Array, weights: Array, num_fitted: int) -> float:
    n = len(errors)
    return float(((weights * errors) ** 2).sum()) / float(weights.sum()) ** 2 * n / (n - num_fitted)
