"""What training takes and gives, and how much each row counts.

Refuses to know where rows are stored and who labeled them; it only asks where they came from,
because hard cases that nobody capped would teach the model a world of hard cases.
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
    """The training rows of one dataset version, and the weights that training may start from."""

    samples: Sequence[Sample] = field(repr=False)
    answers: Sequence[Json] = field(repr=False)
    """the label of each sample"""
    origins: Sequence[str] = field(repr=False)
    """start, probability, targeted or sensor, one for each sample"""
    dataset_id: str
    weights: Sequence[float] = field(default=(), repr=False)
    """of the dataset's rows, one for each sample; () is 1 for all. Only those of sensors count
    here: how much their labels are trusted, in (0, 1]"""
    champion: bytes | None = field(default=None, repr=False)
    """weights that serve now, for a warm start; None starts afresh"""

    def __post_init__(self) -> None:
        if self.weights and len(self.weights) != len(self.samples):
            raise ValueError(
                f"{len(self.samples)} samples and {len(self.weights)} weights; "
                "pass one weight for each sample, or none at all"
            )
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


def row_weights(
    origins: Sequence[str], hard_share: float, reliabilities: Sequence[float] = ()
) -> Array:
    """(N,) weights of mean 1 in which targeted rows hold at most `hard_share` of the total.

    Formula: a row weighs 1, one of a sensor its reliability. With T targeted rows and O the
    weight of all others, a targeted row weighs min(1, hard_share / (1 - hard_share) * O / T).
    They are never weighted up.

    Args:
        origins: of the rows.
        hard_share: 0..1.
        reliabilities: one for each row, of which those of sensors are read; () is 1 for all.

    Raises:
        UserError: there is nothing but targeted rows, so that no weight keeps the share.
    """
    targeted = np.array([origin == TARGETED for origin in origins], dtype=bool)
    weights = np.ones(len(origins))
    if reliabilities:
        told = np.array([origin == SENSOR for origin in origins], dtype=bool)
        weights[told] = np.asarray(reliabilities, dtype=np.float64)[told]
    num_targeted, other = int(targeted.sum()), float(weights[~targeted].sum())
    if num_targeted == 0 or hard_share >= 1:
        return _of_mean_1(weights)
    if other == 0:
        raise UserError(
            f"all {num_targeted} training rows are targeted, and train.hard_share = {hard_share} "
            "allows only a part; add start data or rows of the probability share, "
            "or set train.hard_share = 1"
        )
    cap = hard_share / (1 - hard_share) * other / num_targeted
    weights[targeted] = min(1.0, cap)
    return _of_mean_1(weights)


def _of_mean_1(weights: Array) -> Array:
    scaled: Array = weights / weights.mean() if len(weights) else weights
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
