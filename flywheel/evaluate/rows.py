"""The rows that measure: labeled samples with their weights, and the scores that they got.

Refuses to know who answered and how a score is summed up.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from flywheel.evaluate.stats import Scored
from flywheel.records import Array, Json, Sample

ScoreTable = dict[str, Array]
"""name of a score -> (N,) float64"""


@dataclass(frozen=True, kw_only=True, slots=True)
class Rows:
    """Labeled samples of a dataset version."""

    samples: Sequence[Sample] = field(repr=False)
    answers: Sequence[Json] = field(repr=False)
    """the label of each sample"""
    weights: Sequence[float] | Array | None = field(default=None, repr=False)
    """1 / inclusion probability of each sample; None weighs all alike"""

    def __post_init__(self) -> None:
        num_weights = len(self.samples) if self.weights is None else len(self.weights)
        if not len(self.samples) == len(self.answers) == num_weights:
            raise ValueError(
                f"{len(self.samples)} samples, {len(self.answers)} answers and {num_weights} "
                "weights; pass one answer and one weight for each sample"
            )

    @property
    def ids(self) -> tuple[str, ...]:
        """The sample ids, in order."""
        return tuple(sample.id for sample in self.samples)

    def scored(self, values: Array) -> Scored:
        """Scores (N,) of these rows with their ids and weights."""
        return Scored(ids=self.ids, values=values, weights=self.weight_array())

    def weight_array(self) -> Array:
        """(N,) float64, ones when there are no weights."""
        if self.weights is None:
            return np.ones(len(self.samples))
        return np.asarray(self.weights, dtype=np.float64)
