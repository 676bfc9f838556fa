"""Sampling for a batch: the Poisson sample of the probability share, and comparable embeddings.

A few labels can estimate all of production only if their inclusion probabilities are known, so
every batch has a Poisson sample.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from flywheel.records import Array

_UNIFORM = 0.8
"""Part of the expected size that is spread evenly. It keeps every weight 1/p small, and the gate's
bets large: they shrink with the ratio of the least probability to a sample's own."""


AGREEING = 0.3
"""Part of the expected size that is spread evenly when the draw leans towards disagreement: it bounds
the weights of the production estimate."""


def leaning_probabilities(differs: Array, expected_size: float) -> Array | None:
    """Return (N,) probabilities in (0, 1], mostly where two models differ, the rest spread evenly.

    Formula: p_i = 0.3 n / N + 0.7 n d_i / sum(d), d_i 1 where the answers differ and 0 elsewhere;
    values above 1 are set to 1. All that differ have one probability, so that the gate's bets on
    them have one size.
    Source: Sawade, Landwehr and Scheffer, Active comparison of prediction models (2012).
    Departure: no error is predicted; where both models answer alike no label can set them apart.

    Returns:
        None when nothing differs, or most does: then there is nothing to lean towards.
    """
    number = int(differs.sum())
    if not 0 < number <= len(differs) / 2:
        return None
    shape = AGREEING / len(differs) + (1 - AGREEING) * differs / number
    return _scaled(shape, min(expected_size, len(differs)))


def inclusion_probabilities(uncertainty: Array, expected_size: float) -> Array:
    """Return (N,) probabilities in (0, 1] that sum to n = min(expected_size, N).

    Formula: p_i = 0.8 n / N + 0.2 n u_i / sum(u). Values above 1 are set to 1, and the rest is
    scaled up to keep the sum. Uncertainties are in 0..1; if all are 0 the draw is uniform.
    Source: Saerndal, Swensson & Wretman, Model Assisted Survey Sampling, 3.6.2.
    """
    size = len(uncertainty)
    if size == 0:
        return np.zeros(0)
    total = float(uncertainty.sum())
    shape = uncertainty / total if total > 0 else np.full(size, 1 / size)
    wanted = _UNIFORM / size + (1 - _UNIFORM) * shape
    return _scaled(wanted, min(expected_size, size))


def _scaled(wanted: Array, target: float) -> Array:
    """(N,) probabilities in the ratios wanted that sum to the target, except that none is above 1."""
    size = len(wanted)
    probabilities = wanted * target
    while (over := probabilities > 1).any():
        probabilities[over] = 1.0
        free = probabilities < 1
        rest = target - (size - int(free.sum()))
        if rest <= 0 or not free.any():
            break
        probabilities[free] *= rest / probabilities[free].sum()
    found: Array = np.minimum(probabilities, 1.0)
    return found


def poisson_sample(
    probabilities: Array, most: int, rng: np.random.Generator
) -> tuple[Array, Array]:
    """Return indices of a Poisson sample of at most `most`, and all (N,) inclusion probabilities.

    Items are visited in random order, and each is included independently with its probability
    until `most` are in. Given the order, the k-th item is included with probability
    p_k * P(fewer than `most` of the items before it are in). These are returned, so weights 1/pi
    are exact however tight the budget is.
    """
    order = rng.permutation(len(probabilities))
    asked = probabilities[order]
    inclusion = np.empty(len(probabilities))
    inclusion[order] = asked * _chance_of_room(asked, most)
    taken = order[rng.random(len(asked)) < asked][:most]
    return np.sort(taken), inclusion


def _chance_of_room(probabilities: Array, most: int) -> Array:
    """Return (N,) probabilities that fewer than `most` of the items before each are included."""
    counts = np.zeros(most)  # counts[k]: probability that exactly k are in so far
    counts[:1] = 1.0
    room = np.empty(len(probabilities))
    for index, probability in enumerate(probabilities):
        room[index] = counts.sum()
        moved = counts * probability
        counts -= moved
        counts[1:] += moved[:-1]
    return np.minimum(room, 1.0)


def stack_embeddings(found: Sequence[tuple[str, Array]]) -> Array:
    """Return (N, D) embeddings of one width and scale, from (model digest, embedding) pairs.

    Two models embed samples differently, so the embeddings of each model are centred and scaled
    on their own; those with fewer dimensions are padded with zeros. One that is not finite becomes the
    mean of its model's: it has no direction, and does not spoil that of the others.
    """
    width = max((len(vector) for _, vector in found), default=0)
    stacked = np.zeros((len(found), width))
    digests = np.array([digest for digest, _ in found])
    for index, (_, vector) in enumerate(found):
        stacked[index, : len(vector)] = vector
    for digest in np.unique(digests):
        rows = digests == digest
        known = rows & np.isfinite(stacked).all(axis=1)
        mean = stacked[known].mean(axis=0) if known.any() else np.zeros(width)
        stacked[rows & ~known] = mean
        centred = stacked[rows] - mean
        scale = float(np.sqrt((centred**2).sum(axis=1).mean()))
        stacked[rows] = centred / scale if scale > 0 else centred
    return stacked
