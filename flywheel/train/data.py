"""What training takes and gives, and how much each row counts.

Refuses to know where rows are stored and who labeled them; it only asks where they came from,
because hard cases that nobody capped would teach the model a world of hard cases.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from flywheel.errors import UserError
from flywheel.records import Array, Checkpoint, Json, Sample, canonical

TARGETED = "targeted"


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainingData:
    """The training rows of one dataset version, and the weights that training may start from."""

    samples: Sequence[Sample] = field(repr=False)
    answers: Sequence[Json] = field(repr=False)
    """the label of each sample"""
    origins: Sequence[str] = field(repr=False)
    """start, probability or targeted, one for each sample"""
    dataset_id: str
    champion: bytes | None = field(default=None, repr=False)
    """weights that serve now, for a warm start; None starts afresh"""

    def __post_init__(self) -> None:
        sizes = (len(self.samples), len(self.answers), len(self.origins))
        if len(set(sizes)) != 1:
            raise ValueError(
                f"{sizes[0]} samples, {sizes[1]} answers and {sizes[2]} origins; "
                "pass one answer and one origin for each sample"
            )


@dataclass(frozen=True, kw_only=True, slots=True)
class Trained:
    """What training gives: the weights file and its record."""

    weights: bytes = field(repr=False)
    """safetensors"""
    checkpoint: Checkpoint


def row_weights(origins: Sequence[str], hard_share: float) -> Array:
    """(N,) weights of mean 1 in which targeted rows hold at most `hard_share` of the total.

    Formula: with T targeted and O other rows, a targeted row weighs
    min(1, hard_share / (1 - hard_share) * O / T) times another one. They are never weighted up.

    Raises:
        UserError: there is nothing but targeted rows, so that no weight keeps the share.
    """
    targeted = np.array([origin == TARGETED for origin in origins], dtype=bool)
    num_targeted, num_other = int(targeted.sum()), int((~targeted).sum())
    weights = np.ones(len(origins))
    if num_targeted == 0 or hard_share >= 1:
        return weights
    if num_other == 0:
        raise UserError(
            f"all {num_targeted} training rows are targeted, and train.hard_share = {hard_share} "
            "allows only a part; add start data or rows of the probability share, "
            "or set train.hard_share = 1"
        )
    cap = hard_share / (1 - hard_share) * num_other / num_targeted
    weights[targeted] = min(1.0, cap)
    scaled: Array = weights / weights.mean()
    return scaled


def check_learnable(data: TrainingData) -> None:
    """Refuse data that nothing can be learned from.

    Raises:
        UserError: fewer than two rows, or the same answer on all of them.
    """
    if len(data.samples) < 2:
        raise UserError(
            f"{len(data.samples)} training rows; at least 2 are needed: "
            "add start_data to the task, or label more samples"
        )
    if len({canonical(answer) for answer in data.answers}) < 2:
        raise UserError(
            f"all {len(data.answers)} training rows have the answer {data.answers[0]!r}; "
            "at least 2 different answers are needed: label samples of the other kinds too"
        )
