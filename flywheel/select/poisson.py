"""The probability share: a Poisson sample, whose every member's chance is known.

Only with known inclusion probabilities can a few labels say what the whole production does;
so this share is drawn in every batch, whatever the hard cases are.
"""

from __future__ import annotations

import numpy as np

from flywheel.records import Array

_UNIFORM = 0.3
"""Part of the expected size that is spread evenly, so that no weight 1/p grows large."""


def inclusion_probabilities(uncertainty: Array, expected_size: float) -> Array:
    """(N,) probabilities in (0, 1] that sum to min(expected_size, N).

    p_i = 0.3 n/N + 0.7 n u_i / sum(u), where those that would pass 1 are set to 1 and the
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


def poisson_sample(probabilities: Array, rng: np.random.Generator) -> Array:
    """Indices of a Poisson sample: each is in on its own with its probability."""
    return np.flatnonzero(rng.random(len(probabilities)) < probabilities)
