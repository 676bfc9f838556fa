"""The probability share: a Poisson sample, whose every member's chance is known.

Only with known inclusion probabilities can a few labels say what the whole production does;
so this share is drawn in every batch, whatever the hard cases are.

Hard cases spread over the data: no ten labels for one and the same mistake.

k-means++ seeding on embeddings, where the chance to be next is strength times the squared
distance to what is chosen already (Arthur & Vassilvitskii 2007; as in BADGE, Ash et al.,
1906.03671, with the strength in place of the gradient's length).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from flywheel.records import Array

_UNIFORM = 0.8
"""Part of the expected size that is spread evenly, so that no weight 1/p grows large, and that the
gate's bets, which shrink with the least probability over a sample's own, stay worth their labels."""


def inclusion_probabilities(uncertainty: Array, expected_size: float) -> Array:
    """(N,) probabilities in (0, 1] that sum to min(expected_size, N).

    p_i = 0.8 n/N + 0.2 n u_i / sum(u), where those that would pass 1 are set to 1 and the
    rest is scaled up to keep the sum (Saerndal, Swensson & Wretman, Model Assisted Survey
    Sampling, 3.6.2). Uncertainty is in 0..1; where all are 0 the draw is uniform.
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
    """Indices of a Poisson sample that ends at `most`, and all (N,) inclusion probabilities.

    Each item is in on its own with its probability, asked in random order until `most` are in.
    Given the order, the chance of the k-th item is p_k * P(fewer than `most` of those before
    it are in), which is what is returned: weights 1/pi stay exact however tight the budget is.
    """
    order = rng.permutation(len(probabilities))
    asked = probabilities[order]
    inclusion = np.empty(len(probabilities))
    inclusion[order] = asked * _chance_of_room(asked, most)
    taken = order[rng.random(len(asked)) < asked][:most]
    return np.sort(taken), inclusion


def _chance_of_room(probabilities: Array, most: int) -> Array:
    """(N,) chances that fewer than `most` of those before each item are in."""
    counts = np.zeros(most)  # counts[k]: chance that exactly k are in so far
    counts[:1] = 1.0
    room = np.empty(len(probabilities))
    for index, probability in enumerate(probabilities):
        room[index] = counts.sum()
        moved = counts * probability
        counts -= moved
        counts[1:] += moved[:-1]
    return np.minimum(room, 1.0)


def spread(strength: Array, embeddings: Array, size: int, rng: np.random.Generator) -> list[int]:
    """Indices of at most `size` items, strong and far from each other, strongest first of all.

    Args:
        strength: (N,) in 0..1.
        embeddings: (N, D); only distances between rows matter.
        size: how many to choose.
        rng: of the draw.
    """
    count = len(strength)
    if count <= size:
        return [int(index) for index in np.argsort(-strength, kind="stable")]
    chosen = [int(np.argmax(strength))]
    distance = _squared_distance(embeddings, chosen[0])
    while len(chosen) < size:
        distance[chosen] = 0.0
        weight = distance * strength
        if weight.sum() <= 0:  # only copies of what is chosen are left
            weight = np.where(np.isin(np.arange(count), chosen), 0.0, strength + 1e-9)
        index = int(rng.choice(count, p=weight / weight.sum()))
        chosen.append(index)
        distance = np.minimum(distance, _squared_distance(embeddings, index))
    return chosen


def stack_embeddings(found: Sequence[tuple[str, Array]]) -> Array:
    """(N, D) embeddings of one length and scale, from (model digest, embedding) pairs.

    Two models place samples differently, so each model's embeddings are centred and scaled
    by themselves; rows of models with fewer dimensions are filled with zeros.
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
