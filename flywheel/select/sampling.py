"""Sampling for a batch: Poisson for the probability share, k-means++ for the targeted share.

A few labels can estimate all of production only if their inclusion probabilities are known, so
every batch has a Poisson sample. Targeted samples are spread over the embeddings, so that no ten
labels are spent on one mistake.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from flywheel.records import Array

_UNIFORM = 0.8
"""Part of the expected size that is spread evenly. It keeps every weight 1/p small, and the gate's
bets large: they shrink with the ratio of the least probability to a sample's own."""


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
    target = min(expected_size, size)
    probabilities = wanted * target
    while (over := probabilities > 1).any():
        probabilities[over] = 1.0
        free = probabilities < 1
        rest = target - (size - int(free.sum()))
        if rest <= 0 or not free.any():
            break
        probabilities[free] *= rest / probabilities[free].sum()
    return np.minimum(probabilities, 1.0)


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


def spread(strength: Array, embeddings: Array, size: int, rng: np.random.Generator) -> list[int]:
    """Return indices of at most `size` items, strong and far from each other; the strongest is first.

    k-means++ seeding: the next item is drawn with probability proportional to its strength times
    the squared distance to the nearest chosen item.
    Source: Arthur & Vassilvitskii 2007; as in BADGE (Ash et al., arXiv 1906.03671).
    Departure: the strength stands in place of the gradient's length.

    Args:
        strength: (N,) in 0..1.
        embeddings: (N, D); only distances between rows matter.
        size: number of items to choose.
        rng: generator of the draw.
    """
    count = len(strength)
    if count <= size:
        return [int(index) for index in np.argsort(-strength, kind="stable")]
    chosen = [int(np.argmax(strength))]
    distance = _squared_distance(embeddings, chosen[0])
    while len(chosen) < size:
        distance[chosen] = 0.0
        weight = distance * strength
        if weight.sum() <= 0:  # only copies of chosen items are left
            weight = np.where(np.isin(np.arange(count), chosen), 0.0, strength + 1e-9)
        index = int(rng.choice(count, p=weight / weight.sum()))
        chosen.append(index)
        distance = np.minimum(distance, _squared_distance(embeddings, index))
    return chosen


def stack_embeddings(found: Sequence[tuple[str, Array]]) -> Array:
    """Return (N, D) embeddings of one width and scale, from (model digest, embedding) pairs.

    Two models embed samples differently, so the embeddings of each model are centred and scaled
    on their own; those with fewer dimensions are padded with zeros.
    """
    width = max((len(vector) for _, vector in found), default=0)
    stacked = np.zeros((len(found), width))
    digests = np.array([digest for digest, _ in found])
    for index, (_, vector) in enumerate(found):
        stacked[index, : len(vector)] = vector
    for digest in np.unique(digests):
        rows = digests == digest
        centred = stacked[rows] - stacked[rows].mean(axis=0)
        scale = float(np.sqrt((centred**2).sum(axis=1).mean()))
        stacked[rows] = centred / scale if scale > 0 else centred
    return stacked


def _squared_distance(embeddings: Array, index: int) -> Array:
    squares: Array = ((embeddings - embeddings[index]) ** 2).sum(axis=1)
    return squares
