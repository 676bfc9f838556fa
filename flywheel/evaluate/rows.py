"""The rows that measure: labeled samples with their weights.

Refuses to know who answered and how a score is summed up.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from flywheel.evaluate.book import Part
from flywheel.evaluate.statistic import ScoreTable
from flywheel.records import Array, Json, Sample
from flywheel.task import Task


@dataclass(frozen=True, kw_only=True, slots=True)
class Rows:
    """Labeled samples of a dataset version."""

    samples: Sequence[Sample] = field(repr=False)
    answers: Sequence[Json] = field(repr=False)
    """the label of each sample"""
    weights: Sequence[float] | Array | None = field(default=None, repr=False)
    """1 / inclusion probability of each sample; None weighs all alike"""
    groups: Sequence[str] | None = field(default=None, repr=False)
    """scene or session of each sample; None: every sample stands alone"""
    marks: Mapping[str, Array] = field(default_factory=dict, repr=False)
    """(N,) each, see `book.Part`"""

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

    def weight_array(self) -> Array:
        """(N,) float64, ones when there are no weights."""
        if self.weights is None:
            return np.ones(len(self.samples))
        return np.asarray(self.weights, dtype=np.float64)

    def cluster_array(self) -> Array:
        """(N,) int64, one number for each group, counted in order of appearance."""
        if self.groups is None:
            return np.arange(len(self.samples))
        numbers = {group: number for number, group in enumerate(dict.fromkeys(self.groups))}
        return np.array([numbers[group] for group in self.groups], dtype=np.int64)

    def part(self, scores: Mapping[str, ScoreTable]) -> Part:
        """The rows with everyone's scores, as a part of the book."""
        return Part(
            ids=self.ids,
            weights=self.weight_array(),
            clusters=self.cluster_array(),
            marks=self.marks,
            scores=scores,
        )


def slice_marks(task: Task, rows: Rows) -> dict[str, Array]:
    """slice/NAME -> (N,) boolean, which rows are in it, for each slice of the task."""
    return {
        f"slice/{name}": np.array([belongs(sample) for sample in rows.samples], dtype=bool)
        for name, belongs in task.slices.items()
    }
