"""Power analysis: how many fresh labels, and nights, it takes to promote a gain of a given size."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

from flywheel.decide.eprocess import e_value, log_factors
from flywheel.records import Array, FreshOutcomes

_POWER = 0.8
_MOST_LABELS = 20_000


@dataclass(frozen=True, kw_only=True, slots=True)
class Planned:
    """Labels and nights that a gain of one size takes."""

    gain: float
    num_labels: int | None
    """None: more than 20,000, or the gain is not above min_gain"""
    nights: int | None


@dataclass(frozen=True, kw_only=True, slots=True)
class Draw:
    """How unevenly the labels are drawn; both scales are 1 for an even draw."""

    mean_scale: float = 1.0
    """0..1, over all labels"""
    discordant_scale: float = 1.0
    """0..1, over the samples of production on which exactly one of the two models fails"""


def labels_for_gain(
    gain: float,
    discordance: float,
    alpha: float,
    *,
    min_gain: float = 0.0,
    draw: Draw | None = None,
) -> int | None:
    """Fresh labels with which a true gain of a rate is promoted with a power of 0.8.

    Formula: the number of labels that exactly one model gets right is binomial with probability
    `discordance`; (1 + gain / discordance) / 2 of these are wins. The power sums the probabilities
    of all wins and losses whose e-value reaches 1 / alpha; exact for an even draw.
    Departure: an uneven draw is planned as one of equal scales with the same mean and spread, and
    only the last night counts, while in reality an earlier night sometimes suffices.

    Returns:
        None when the gain is not above min_gain, or when 20,000 labels would not be enough.

    Raises:
        ValueError: discordance is below the gain's size or above 1, or alpha is outside (0, 1).
    """
    if not 0 < alpha < 1:
        raise ValueError(
            f"alpha = {alpha}; it must be a probability between 0 and 1. Give 0.05, for example"
        )
    if not abs(gain) <= discordance <= 1:
        raise ValueError(
            f"discordance = {discordance}; it must be at least the gain {gain:g} and at most 1. "
            "Give the share of samples on which exactly one model is right"
        )
    if gain <= min_gain:
        return None
    # Double until the power suffices, then bisect: power grows with labels, but for small steps.
    case = _Case(gain, discordance, min_gain, draw or Draw(), math.log(1 / alpha))
    low, high = 0, 16
    while case.power(high) < _POWER:
        low, high = high, 2 * high
        if high > _MOST_LABELS:
            return None
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if case.power(middle) >= _POWER else (middle, high)
    return high


def plan_gains(
    gains: Sequence[float], discordance: float, alpha: float, labels_per_night: float
) -> tuple[Planned, ...]:
    """Labels and nights for each gain, for models that differ on at least `discordance` of samples."""
    rows = []
    for gain in gains:
        labels = labels_for_gain(gain, max(discordance, gain), alpha)
        nights = None if labels is None else math.ceil(labels / labels_per_night)
        rows.append(Planned(gain=gain, num_labels=labels, nights=nights))
    return tuple(rows)


def labels_to_go(outcomes: FreshOutcomes, min_gain: float, alpha: float) -> int | None:
    """More fresh labels after which a challenge like this one promotes with a power of 0.8.

    Formula: the least n over bets with n g - z sqrt(n v) = log(1 / alpha) - log(e-value), g and v
    the mean and variance of the bet's log factor on the outcomes so far, z the 0.8 quantile of
    the normal distribution. This is an approximation: it takes the measured gain as the true one.

    Returns:
        0 when the evidence suffices; None when no bet grows, or 20,000 labels would not be enough.
    """
    missing = math.log(1 / alpha) - math.log(e_value(outcomes, min_gain))
    if missing <= 0:
        return 0
    if not outcomes.gains:
        return None
    logs, _ = log_factors(outcomes, min_gain)
    growth, spread = logs.mean(axis=1), logs.std(axis=1) * stats.norm.ppf(_POWER)
    grows = growth > 0
    if not grows.any():
        return None
    growth, spread = growth[grows], spread[grows]
    roots = (spread + np.sqrt(spread**2 + 4 * growth * missing)) / (2 * growth)
    labels = math.ceil(float(np.min(roots)) ** 2)
    return labels if labels <= _MOST_LABELS else None


@dataclass(frozen=True, slots=True)
class _Case:
    """The planned test for one gain: wins, losses and ties and what they do to each bet."""

    gain: float
    discordance: float
    min_gain: float
    draw: Draw
    needed: float

    def power(self, labels: int) -> float:
        """Probability that the evidence of so many labels reaches the threshold."""
        share = min(1.0, self.discordance * self.draw.mean_scale / self.draw.discordant_scale)
        spread = stats.binom(labels, share)
        # Counts beyond these quantiles change the power by less than 2e-6.
        counts = np.arange(int(spread.ppf(1e-6)), int(spread.ppf(1 - 1e-6)) + 1)
        wins = self._wins_needed(counts, labels)
        chances = stats.binom.sf(wins - 1, counts, (1 + self.gain / self.discordance) / 2)
        return float(spread.pmf(counts) @ chances)

    def _wins_needed(self, counts: Array, labels: int) -> Array:
        """(D,) fewest wins that suffice, for each count of discordant labels; count + 1: none do."""
        low: Array = np.full(len(counts), -1)
        high: Array = counts + 1
        while (high - low > 1).any():
            middle = (low + high) // 2
            enough = self._evidence(middle, counts, labels) >= self.needed
            low, high = np.where(enough, low, middle), np.where(enough, middle, high)
        return high

    def _evidence(self, wins: Array, counts: Array, labels: int) -> Array:
        """(D,) logarithm of the e-value."""
        three = FreshOutcomes(
            gains=(1.0, -1.0, 0.0),
            scales=(self.draw.discordant_scale, self.draw.discordant_scale, self.draw.mean_scale),
            is_bounded=True,
            num_new=0,
        )
        win, loss, tie = log_factors(three, self.min_gain)[0].T[:, :, None]
        stakes = wins * win + (counts - wins) * loss + (labels - counts) * tie
        return np.asarray(np.logaddexp.reduce(stakes, axis=0) - math.log(len(stakes)))
