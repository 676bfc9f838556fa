"""What a formula is to everything that computes with it: weighted scores in, one number out.

Weights are the one way to say which samples count and how often: 1 / inclusion probability,
times how often a resample drew a row.
"""

from __future__ import annotations

from typing import Protocol

from flywheel.records import Array

ScoreTable = dict[str, Array]
"""name of a score -> (N,) float64"""


class Statistic(Protocol):
    """An aggregate of per-sample scores, or a formula over several."""

    @property
    def text(self) -> str:
        """As a person writes it; `flywheel.metrics.grammar.parse.parse_formula` can read it."""
        ...

    @property
    def columns(self) -> frozenset[str]:
        """The scores that it needs; empty when a function of the task may look at any of them."""
        ...

    @property
    def mean_of(self) -> str | None:
        """The score whose weighted mean it is; None when it is anything else."""
        ...

    @property
    def quantiles(self) -> tuple[tuple[str, float], ...] | None:
        """(score, level) pairs when it depends on the rows through these quantiles only."""
        ...

    @property
    def level_of(self) -> str | None:
        """The score whose mean or quantile it is, within whose range it lies; None otherwise."""
        ...

    @property
    def is_share(self) -> bool:
        """Whether it lies in 0..1 whatever the scores are."""
        ...

    def __call__(self, scores: ScoreTable, weights: Array) -> Array:
        """Scores (N,) each and weights (B, N), 0 allowed -> (B,); NaN where it is not defined."""
        ...
