"""Hard cases spread over the data: no ten labels for one and the same mistake.

k-means++ seeding on embeddings, where the chance to be next is strength times the squared
distance to what is chosen already (Arthur & Vassilvitskii 2007; as in BADGE, Ash et al.,
1906.03671, with the strength in place of the gradient's length).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from flywheel.records import Array


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
