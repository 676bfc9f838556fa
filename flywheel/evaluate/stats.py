"""Which number and which interval: weighted means, and differences paired sample by sample.

A sample weighs 1 / inclusion probability, so that every mean speaks of production and not of
what was drawn. Too little data gives None, never a zero. Refuses to know tasks and models.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from flywheel.evaluate.intervals import bca, kish_size, student, tango, wilson
from flywheel.records import Array, Estimate

FEWEST_SAMPLES = 5
_TAIL = 0.025


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Scored:
    """One score of one model on N samples.

    Raises:
        ValueError: unequal lengths, an id twice, a score that is no finite number, or a weight
            that is not above 0; the message names the sample.
    """

    ids: tuple[str, ...]
    values: Array
    """(N,)"""
    weights: Array
    """(N,), 1 / inclusion probability"""

    def __post_init__(self) -> None:
        if not len(self.ids) == len(self.values) == len(self.weights):
            raise ValueError(
                f"{len(self.ids)} ids, {len(self.values)} scores and {len(self.weights)} weights; "
                "pass one score and one weight for each sample"
            )
        if len(set(self.ids)) != len(self.ids):
            twice = next(name for name in self.ids if self.ids.count(name) > 1)
            raise ValueError(f"sample {twice} is there twice; pass every sample once")
        for name, score, weight in zip(self.ids, self.values, self.weights, strict=True):
            if not np.isfinite(score):
                raise ValueError(
                    f"the score of sample {name} is {score}; a score is a finite number: "
                    "mend the task's scores function"
                )
            if not (np.isfinite(weight) and weight > 0):
                raise ValueError(
                    f"the weight of sample {name} is {weight}; a weight is above 0: "
                    "it is 1 / inclusion probability"
                )

    def where(self, chosen: Array) -> Scored:
        """The samples at which a boolean array (N,) is true."""
        ids = tuple(name for name, keep in zip(self.ids, chosen, strict=True) if keep)
        return Scored(ids=ids, values=self.values[chosen], weights=self.weights[chosen])


def weighted_mean(scored: Scored) -> float:
    """Hajek's mean, sum(w y) / sum(w); exact for production as a whole when w = 1 / pi."""
    return float(np.average(scored.values, weights=scored.weights))


def estimate_mean(
    scored: Scored, rng: np.random.Generator, *, tail: float = _TAIL
) -> Estimate | None:
    """The weighted mean with its interval; None below 5 samples.

    A rate (all scores 0 or 1) gets `intervals.wilson`, any other score `_hull`. Scores that are
    all equal get the rule of three, see `_unseen`.
    """
    if len(scored.ids) < FEWEST_SAMPLES:
        return None
    value = weighted_mean(scored)
    if _is_rate(scored.values):
        low, high = wilson(scored.values, scored.weights, tail)
    elif np.ptp(scored.values) == 0:
        low, high = _unseen(value, scored.weights, float(np.abs(scored.values).max()), tail)
    else:
        low, high = _hull(scored.values, scored.weights, tail, rng)
    return _estimate(value, low, high, len(scored.ids))


def paired_difference(
    candidate: Scored, champion: Scored, rng: np.random.Generator, *, tail: float = _TAIL
) -> Estimate | None:
    """The weighted mean of candidate minus champion on the same samples; None below 5 samples.

    Each bound alone fails with a chance of at most `tail`. Differences of rates get
    `intervals.tango`, all others `_hull`. Differences that are all equal get the rule of three,
    see `_unseen`.

    Raises:
        ValueError: the two are not about the same samples in the same order.
    """
    _check_pairs(candidate, champion)
    if len(candidate.ids) < FEWEST_SAMPLES:
        return None
    weights, both = candidate.weights, np.concatenate([candidate.values, champion.values])
    differences = candidate.values - champion.values
    value = float(np.average(differences, weights=weights))
    if _is_rate(both):
        low, high = tango(differences, weights, tail)
    elif np.ptp(differences) == 0:
        largest = max(float(np.ptp(both)), float(np.abs(both).max()))
        low, high = _unseen(value, weights, largest, tail)
    else:
        low, high = _hull(differences, weights, tail, rng)
    return _estimate(value, low, high, len(candidate.ids))


def _is_rate(values: Array) -> bool:
    return bool(np.isin(values, (0.0, 1.0)).all())


def _hull(
    values: Array, weights: Array, tail: float, rng: np.random.Generator
) -> tuple[float, float]:
    """The hull of `intervals.bca` and `intervals.student`.

    BCa alone covers skewed scores too seldom below 100 samples (0.89 at n = 30 with uneven
    weights, nominal 0.95), and at the small tails that are left for late candidates no number of
    resamples can see beyond the largest score drawn.
    """
    resampled, normal = bca(values, weights, tail, rng), student(values, weights, tail)
    return min(resampled[0], normal[0]), max(resampled[1], normal[1])


def _unseen(value: float, weights: Array, largest: float, tail: float) -> tuple[float, float]:
    """Bounds for values that are all equal: what n draws may have missed.

    Formula: a share u = 1 - tail^(1/n_eff) of production, about -ln(tail) / n_eff, may differ
    unseen, each sample by at most `largest`: (1 - u) value +- u largest.
    Source: the rule of three (Hanley and Lippman-Hand 1983), for scores with a bound.
    """
    share = 1 - tail ** (1 / kish_size(weights))
    return (1 - share) * value - share * largest, (1 - share) * value + share * largest


def _estimate(value: float, low: float, high: float, num_samples: int) -> Estimate:
    return Estimate(
        value=value, low=min(low, value), high=max(high, value), num_samples=num_samples
    )


def _check_pairs(candidate: Scored, champion: Scored) -> None:
    for index, (left, right) in enumerate(zip(candidate.ids, champion.ids, strict=False)):
        if left != right:
            raise ValueError(
                f"row {index} is sample {left} for the candidate and {right} for the champion; "
                "score both on the same samples in the same order"
            )
    if len(candidate.ids) != len(champion.ids):
        raise ValueError(
            f"{len(candidate.ids)} scores of the candidate and {len(champion.ids)} of the champion; "
            "score both on the same samples"
        )
    if not np.array_equal(candidate.weights, champion.weights):
        raise ValueError(
            "the candidate's weights are not the champion's; weigh both as the test set says"
        )
