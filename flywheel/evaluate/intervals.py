"""Intervals for weighted rates, means and paired differences, each with its source.

Arrays in, two bounds out. `tail` is the error probability of one bound alone: 0.025 gives the
usual 95 % interval.
"""

from __future__ import annotations

import math

import numpy as np
import scipy

from flywheel.records import Array

_Bounds = tuple[float, float]


def kish_size(weights: Array) -> float:
    """The effective size: (sum w)^2 / sum w^2, as many equally weighted samples (Kish 1965)."""
    return float(weights.sum() ** 2 / (weights**2).sum())


def by_cluster(values: Array, weights: Array, clusters: Array) -> tuple[Array, Array]:
    """The weighted mean and the total weight of each cluster, (C,) each.

    The weighted mean over clusters equals the one over rows, and its linearised variance is
    sum over clusters of (sum of w e)^2. When every row is its own cluster, rows are unchanged.
    """
    units = np.unique(clusters, return_inverse=True)[1]
    if units.max() + 1 == len(values):
        return values, weights
    totals = np.bincount(units, weights)
    return np.bincount(units, weights * values) / totals, totals


def wilson(values: Array, weights: Array, tail: float, clusters: Array | None = None) -> _Bounds:
    """Interval for the weighted share of ones among 0/1 values.

    Formula: Wilson's score interval on the effective size n_eff = p (1 - p) / V, where p is the
    Hajek mean and V = sum (w e)^2 / (sum w)^2 * n / (n - 1), e = value - p, its linearised
    variance; n_eff is at most 4 n. When all values are equal, V = 0 is uninformative and n_eff is
    Kish's size, over clusters if given. Otherwise clusters divide n_eff, see `_design_effect`.
    Source: Wilson 1927; effective size as in Korn and Graubard 1998 and Dean and Pagano 2015.
    Departure: no finite population factor 1 - pi, because the number describes future production
    and not only the samples that could have been drawn.
    """
    n, p = len(values), float(np.average(values, weights=weights))
    errors = weights * (values - p)
    variance = float((errors**2).sum()) / float(weights.sum()) ** 2 * n / (n - 1)
    if variance == 0:
        size = _kish_of_clusters(weights, clusters)
    else:
        size = min(p * (1 - p) / variance, 4.0 * n)
        size /= _design_effect(values - p, weights, tail, clusters)
    return wilson_bounds(p, size, tail)


def wilson_bounds(p: float, size: float, tail: float) -> _Bounds:
    """Wilson's score interval for a share of so many samples, which need not be a whole number."""
    z = float(scipy.stats.norm.isf(tail))
    centre = (p + z**2 / (2 * size)) / (1 + z**2 / size)
    half = z / (1 + z**2 / size) * math.sqrt(p * (1 - p) / size + z**2 / (4 * size**2))
    return max(0.0, centre - half), min(1.0, centre + half)


def tango(
    differences: Array, weights: Array, tail: float, clusters: Array | None = None
) -> _Bounds:
    """Interval for the weighted mean of paired differences that are all -1, 0 or 1.

    Formula: Tango's score interval on the effective counts b = n_eff P(+1), c = n_eff P(-1):
    the values d at which (|b - c - n_eff d| - 1) / sqrt(n_eff (2 q + d (1 - d))) is the normal
    quantile, q the constrained maximum-likelihood share of -1. n_eff makes b + c Kish's count of
    the discordant pairs (at most 4 n in all), or is Kish's size of all pairs when none is discordant.
    At d = 0 it is McNemar's test with continuity correction. No discordant pair gives about
    +-(z^2 + 2) / n, never a width of zero. Clusters divide n_eff, see `_design_effect`.
    Source: Tango, Statistics in Medicine 17 (1998) 891.
    Departure: effective counts in place of counts; and the continuity correction, without which four
    wins to none would pass at a tail of 0.025 although their probability by chance is 0.0625.
    """
    discordant = differences != 0
    total = float(weights.sum())
    if discordant.any():
        share = float(weights[discordant].sum()) / total
        size = min(kish_size(weights[discordant]) / share, 4.0 * len(differences))
        centred = differences - np.average(differences, weights=weights)
        size /= _design_effect(centred, weights, tail, clusters)
    else:
        size = _kish_of_clusters(weights, clusters)
    better = size * float(weights[differences > 0].sum()) / total
    worse = size * float(weights[differences < 0].sum()) / total
    z = float(scipy.stats.norm.isf(tail))
    return _tango_low(better, worse, size, z), -_tango_low(worse, better, size, z)


def _tango_low(better: float, worse: float, size: float, z: float) -> float:
    """The lower bound, from effective counts; the upper one is its mirror image."""

    def excess(d: float) -> float:
        # Tango's closed form of the maximum-likelihood share of -1, given the difference d.
        b = -better - worse + (2 * size - better + worse) * d
        c = -worse * d * (1 - d)
        share_worse = (math.sqrt(max(b * b - 8 * size * c, 0.0)) - b) / (4 * size)
        variance = size * (2 * share_worse + d * (1 - d))
        return better - worse - size * d - 1 - z * math.sqrt(max(variance, 0.0))

    if excess(-1.0) <= 0:
        return -1.0
    # At the point estimate excess is below 0, at -1 it is above: the root lies between.
    return float(scipy.optimize.brentq(excess, -1.0, (better - worse) / size, xtol=1e-10))


def student(values: Array, weights: Array, tail: float) -> _Bounds:
    """Student's interval for the weighted mean.

    Formula: mean +- t * sqrt(V) with V as in `wilson` and n_eff - 1 degrees of freedom.
    Source: Student 1908; linearised variance as in Binder 1983.
    Departure: Kish's effective size in place of n.
    """
    n, mean = len(values), float(np.average(values, weights=weights))
    errors = weights * (values - mean)
    variance = float((errors**2).sum()) / float(weights.sum()) ** 2 * n / (n - 1)
    half = float(scipy.stats.t.isf(tail, max(kish_size(weights) - 1, 1.0))) * math.sqrt(variance)
    return mean - half, mean + half


def _kish_of_clusters(weights: Array, clusters: Array | None) -> float:
    """Kish's size over clusters: values may be all equal just because they share few clusters."""
    return kish_size(weights if clusters is None else by_cluster(weights, weights, clusters)[1])


def _design_effect(errors: Array, weights: Array, tail: float, clusters: Array | None) -> float:
    """The design effect: how many clustered rows are worth one independent row; 1 without clusters.

    Formula: max(1, V_cluster / V) * (t / z)^2, V = sum (w e)^2 * n / (n - 1), V_cluster =
    sum over clusters of (sum of w e)^2 * C / (C - 1), t Student's quantile with Kish's number of
    clusters - 1 degrees of freedom, because V_cluster is estimated from only C terms.
    Source: Kish 1965; linearised variance as in Binder 1983; t / z as in Korn and Graubard 1998.
    Departure: at least 1; clusters never make an interval narrower.
    """
    if clusters is None:
        return 1.0
    means, totals = by_cluster(errors, weights, clusters)
    n, number = len(errors), len(totals)
    if number == n:
        return 1.0
    independent = float(((weights * errors) ** 2).sum()) * n / (n - 1)
    clustered = float(((totals * means) ** 2).sum()) * number / (number - 1)
    freedom = max(kish_size(totals) - 1, 1.0)
    ratio = float(scipy.stats.t.isf(tail, freedom) / scipy.stats.norm.isf(tail))
    return max(1.0, clustered / independent if independent > 0 else 1.0) * ratio**2
