"""Inputs and outputs of training, and the weight of each training row.

Targeted rows are hard cases by selection. Without a cap on their share the model would learn a
world in which most samples are hard, so `row_weights` weights them down.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from flywheel.errors import UserError
from flywheel.records import SENSOR, Array, Checkpoint, Json, Sample, canonical

TARGETED = "targeted"


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainingData:
    """The training rows of one dataset version, and the weights for a warm start."""

    samples: Sequence[Sample] = field(repr=False)
    answers: Sequence[Json] = field(repr=False)
    """the label of each sample"""
    origins: Sequence[str] = field(repr=False)
    """origin of each sample: start, probability, targeted or sensor"""
    dataset_id: str
    weights: Sequence[float] = field(default=(), repr=False)
    """one for each sample; () is 1 for all. Only those of sensor rows are used: the reliability of
    the sensor's labels, in (0, 1]"""
    champion: bytes | None = field(default=None, repr=False)
    """weights of the champion, for a warm start; None trains from scratch"""

    def __post_init__(self) -> None:
        if self.weights and len(self.weights) != len(self.samples):
            raise ValueError(
                f"{len(self.samples)} samples have {len(self.weights)} weights; "
                "pass one weight for each sample, or none at all"
            )
        sizes = (len(self.samples), len(self.answers), len(self.origins))
        if len(set(sizes)) != 1:
            raise ValueError(
                f"{sizes[0]} samples have {sizes[1]} answers and {sizes[2]} origins; "
                "pass one answer and one origin for each sample"
            )


@dataclass(frozen=True, kw_only=True, slots=True)
class Trained:
    """The trained weights and the record of how they were made."""

    weights: bytes = field(repr=False)
    """safetensors"""
    checkpoint: Checkpoint


def row_weights(
    origins: Sequence[str], hard_share: float, reliabilities: Sequence[float] = ()
) -> Array:
    """Return (N,) weights of mean 1 in which targeted rows hold at most `hard_share` of the total.

    Formula: a row weighs 1, a sensor row its reliability. With T targeted rows and O the total
    weight of all others, a targeted row weighs min(1, hard_share / (1 - hard_share) * O / T).
    Targeted rows are never weighted up.

    Args:
        origins: origin of each row.
        hard_share: largest share of the total weight that targeted rows may hold, 0..1.
        reliabilities: one for each row, used for sensor rows only; () is 1 for all.

    Raises:
        UserError: all rows are targeted, so that no weights keep the share.
    """
    targeted = np.array([origin == TARGETED for origin in origins], dtype=bool)
    weights = np.ones(len(origins))
    if reliabilities:
        sensed = np.array([origin == SENSOR for origin in origins], dtype=bool)
        weights[sensed] = np.asarray(reliabilities, dtype=np.float64)[sensed]
    num_targeted, other = int(targeted.sum()), float(weights[~targeted].sum())
    if num_targeted == 0 or hard_share >= 1:
        return _mean_one(weights)
    if other == 0:
        raise UserError(
            f"all {num_targeted} training rows are targeted, and train.hard_share = {hard_share} "
            "allows only a part; add start data or rows of the probability share, "
            "or set train.hard_share = 1"
        )
    cap = hard_share / (1 - hard_share) * other / num_targeted
    weights[targeted] = min(1.0, cap)
    return _mean_one(weights)


def _mean_one(weights: Array) -> Array:
    scaled: Array = weights / weights.mean() if len(weights) else weights
    return scaled


def check_learnable(data: TrainingData) -> None:
    """Raise an error for data from which nothing can be learned.

    Raises:
        UserError: there are fewer than two rows, or all have the same answer.
    """
    if len(data.samples) < 2:
        raise UserError(
            f"there are {len(data.samples)} training rows and at least 2 are needed; "
            "add start_data to the task, or label more samples"
        )
    if len({canonical(answer) for answer in data.answers}) < 2:
        raise UserError(
            f"all {len(data.answers)} training rows have the answer {data.answers[0]!r} and at least "
            "2 different answers are needed; label samples of other classes too"
        )
