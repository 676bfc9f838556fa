"""How good each annotator of a tier is, from the evidence of all of them: a hierarchy of Betas.

An annotator of whom little is known is taken for an average one of the tier. Everything is a
weighted sum on grids: nothing is drawn at random, and no bound is a normal approximation. Evidence
comes as log odds, one an answer.
"""

from __future__ import annotations

from functools import cache
from typing import NamedTuple

import numpy as np
from scipy import special, stats

from flywheel.records import Array

_POINTS = np.sin(np.pi / 2 * (np.arange(128) + 0.5) / 128) ** 2
"""Chances of being right, (R,), closest near 0 and 1."""

_EDGES = np.sin(np.pi / 2 * np.arange(129) / 128) ** 2

_MEANS = np.linspace(0.025, 0.975, 39)
"""of a tier"""
_SIZES = np.geomspace(1.0, 100.0, 9)
"""a + b of a tier's Beta: small where annotators differ, large where they are alike"""

_EVIDENCE = np.linspace(-15.0, 15.0, 121)
"""Log odds are spread over the two nearest of these."""

_FIRMNESS = 5.5
"""a + b of what is expected of a tier's mean before anyone has answered"""

_TINY = 1e-300


class Tier(NamedTuple):
    """What is known of the annotators of one tier; all chances of being right."""

    log_density: Array
    """(P, R) of each person's posterior"""
    means: Array
    """(P,)"""
    newcomer: float
    """mean of an annotator of the tier of whom nothing is known"""


def log_likelihoods(person: Array, evidence: Array, num_annotators: int) -> Array:
    """(P, R) log of the product over a person's answers of r e^l + 1 - r, l their log odds.

    Args:
        person: (A,) int, whose answer it is.
        evidence: (A,) log odds that the answer is right, by all that others say of it;
            infinite where it is known.
        num_annotators: P.
    """
    step = _EVIDENCE[1] - _EVIDENCE[0]
    place = np.clip((evidence - _EVIDENCE[0]) / step, 0, len(_EVIDENCE) - 1)
    low = np.minimum(place.astype(np.intp), len(_EVIDENCE) - 2)
    size = num_annotators * len(_EVIDENCE)
    cell = person * len(_EVIDENCE) + low
    counts = np.bincount(cell, 1 - (place - low), size) + np.bincount(cell + 1, place - low, size)
    odds = _EVIDENCE[:, None]
    table = np.logaddexp(np.log(_POINTS) + odds, np.log1p(-_POINTS)) - np.logaddexp(odds, 0)
    return np.asarray(counts.reshape(num_annotators, len(_EVIDENCE)) @ table)


def fit_tier(likelihoods: Array, expected: float) -> Tier:
    """Posterior of every person of a tier, with its mean and size integrated out.

    Model: r of a person ~ Beta(mean * size, (1 - mean) * size); the mean ~ Beta(5.5 e, 5.5 (1 - e))
    with e the expected mean; the size uniform in its logarithm between 1 and 100.
    """
    priors = _priors()
    hyper = stats.beta(_FIRMNESS * expected, _FIRMNESS * (1.0 - expected)).pdf(_MEANS)
    hyper = np.repeat(hyper, len(_SIZES))
    top = likelihoods.max(axis=1, keepdims=True)
    marginal = np.log(np.exp(likelihoods - top) @ priors)  # (P, H)
    weight = np.log(hyper) + marginal.sum(axis=0)
    weight -= special.logsumexp(weight)
    # Under each mean and size the posterior is likelihood times prior over the marginal.
    mixed = np.exp(weight - marginal) @ priors.T  # (P, R)
    log_density = likelihoods - top + np.log(np.maximum(mixed, _TINY))
    newcomer = float(np.exp(weight) @ np.repeat(_MEANS, len(_SIZES)))
    means = _normalised(log_density) @ _POINTS
    return Tier(log_density=log_density, means=means, newcomer=newcomer)


def interval(log_density: Array, tail: float) -> tuple[float, float]:
    """Equal-tailed bounds of one person's posterior, (R,)."""
    below = np.concatenate([[0.0], np.cumsum(_normalised(log_density[None])[0])])
    return float(np.interp(tail, below, _EDGES)), float(np.interp(1 - tail, below, _EDGES))


def _normalised(log_density: Array) -> Array:
    density = np.exp(log_density - log_density.max(axis=1, keepdims=True))
    return np.asarray(density / density.sum(axis=1, keepdims=True))


@cache
def _priors() -> Array:
    """(R, H) mass of each point under the Beta of each mean and size."""
    means, sizes = (axis.ravel() for axis in np.meshgrid(_MEANS, _SIZES, indexing="ij"))
    mass = np.diff(stats.beta(means * sizes, (1 - means) * sizes).cdf(_EDGES[:, None]), axis=0)
    return np.asarray(np.maximum(mass, _TINY))
