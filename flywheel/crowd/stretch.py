"""How much wider an interval is because the other people are not known exactly either.

Each person's posterior takes the others as they are most likely to be; what is not known of them
moves it, most of all where samples have two answers and little is gold. Refuses to know how the
posteriors were found.
"""

from __future__ import annotations

import numpy as np
from scipy import sparse, special

from flywheel.crowd.opinions import Opinions
from flywheel.records import Array

_MOST_PEOPLE = 1500
"""of more, each one matters little, and a matrix of all pairs is large"""
_MOST = 3.0
_PRIOR = 3.0
"""Answers that what is known of a tier is worth, at least."""


def stretches(packed: Opinions, weight: Array, chances: Array, means: Array) -> Array:
    """(P,) standard deviation of a person's logit r over that when all others are known; 1 to 3.

    Formula: sqrt(I_pp (I^-1)_pp), I the observed information on the logits of all people's
    reliabilities. By Louis (1982) it is the complete one, sum of w r (1 - r) over a person's
    answers, less the covariance of the scores under the posterior of what is right:
    sum over samples of [sum_g P_g a_g a_g' - m m'], m = sum_g P_g a_g, a_g the (P,) weights of
    the people in group g and P_g its chance.

    Args:
        packed: opinions.
        weight: (A,) voices that each counts for.
        chances: (G,) of each group to be right.
        means: (P,) reliability of each person.
    """
    number = len(means)
    if not number or number > _MOST_PEOPLE:
        return np.ones(number)
    shape = (len(chances), number)
    members = sparse.csr_matrix((weight, (packed.group, packed.person)), shape=shape)
    expected = sparse.csr_matrix(
        (weight * chances[packed.group], (packed.sample, packed.person)),
        shape=(len(packed.samples), number),
    )
    scores = members.T @ members.multiply(chances[:, None]) - expected.T @ expected
    answers = np.bincount(packed.person, weight, number) + _PRIOR
    information = np.diag(answers * means * (1 - means)) - scores.toarray()
    spread, axes = np.linalg.eigh(information)
    # Away from the maximum it may point downwards in a direction that nothing is known of.
    spread = np.maximum(spread, 1e-3 * max(float(spread.max()), 1e-12))
    alone = np.einsum("pk,k,pk->p", axes, spread, axes)
    together = np.einsum("pk,k,pk->p", axes, 1 / spread, axes)
    return np.asarray(np.clip(np.sqrt(alone * together), 1.0, _MOST))


def stretched(bounds: tuple[float, float], mean: float, factor: float) -> tuple[float, float]:
    """Bounds as many times as far from the mean, on the scale of the logit."""
    middle = special.logit(mean)
    low, high = (
        float(special.expit(middle + factor * (special.logit(bound) - middle))) for bound in bounds
    )
    return low, high
