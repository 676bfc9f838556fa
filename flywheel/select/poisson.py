"""The probability share: a Poisson sample, whose every member's chance is known.

Only with known inclusion probabilities can a few labels say what the whole production does;
so this share is drawn in every batch, whatever the hard cases are.
"""

from __future__ import annotations

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
