"""How many fresh labels, and nights, a gain of a given size takes to be promoted.

Refuses to know which candidate has such a gain; it only says what its proof would cost.
"""

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
    """What a gain of one size takes."""

    gain: float
    num_labels: int | None
    """None: more than anyone would label"""
    nights: int | None


@dataclass(frozen=True, kw_only=True, slots=True)
class Draw:
    """How uneven the labels are drawn; the values for an even draw are 1."""

    mean_scale: float = 1.0
    """0..1, of all labels"""
    discordant_scale: float = 1.0
    """0..1, of the samples on which one of the two models fails, as production has them"""


def labels_for_gain(
    gain: float,
    discordance: float,
    alpha: float,
    *,
    min_gain: float = 0.0,
    draw: Draw | None = None,
) -> int | None:
    """Fresh labels with which a true gain of a rate is promoted four times in five.

    Exact for an even draw, by summing over wins and losses: labels that one model alone gets
    right are binomial with `discordance`, and (1 + gain / discordance) / 2 of them are wins. An
    uneven draw is planned as one of equal scales with the same mean and spread. Only the last
    night counts, so now and then an earlier one does it. None when the gain is not above
    min_gain, or when 20,000 labels would not do.

    Raises:
        ValueError: discordance is below the gain's size or above 1, or alpha is outside (0, 1).
    """
    if not 0 < alpha < 1:
        raise ValueError(f"alpha = {alpha}; it is a chance between 0 and 1, 0.05 for one")
    if not abs(gain) <= discordance <= 1:
        raise ValueError(
            f"discordance = {discordance}; it is at least the gain {gain:g} and at most 1"
        )
    if gain <= min_gain:
        return None
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
    """A table: labels and nights for each gain, where models differ on `discordance` at least."""
    rows = []
    for gain in gains:
        labels = labels_for_gain(gain, max(discordance, gain), alpha)
        nights = None if labels is None else math.ceil(labels / labels_per_night)
        rows.append(Planned(gain=gain, num_labels=labels, nights=nights))
    return tuple(rows)


def labels_to_go(outcomes: FreshOutcomes, min_gain: float, alpha: float) -> int | None:
    """More fresh labels until four challenges in five like this one promote, if it goes on so.

    Formula: the least n over bets with n g - z sqrt(n v) = log(1 / alpha) - log(e-value), g and v
    the mean and variance of the bet's log factor on the outcomes so far, z the 0.8 quantile of
    the normal distribution. An approximation: the measured gain is taken for the true one. 0 when
    the evidence is there; None when no bet grows, or 20,000 labels would not do.
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
    """One gain, as logarithms of what wins, losses and ties do to each bet."""

    gain: float
    discordance: float
    min_gain: float
    draw: Draw
    needed: float

    def power(self, labels: int) -> float:
        """Chance that the evidence of so many labels is enough."""
        share = min(1.0, self.discordance * self.draw.mean_scale / self.draw.discordant_scale)
        spread = stats.binom(labels, share)
        counts = np.arange(int(spread.ppf(1e-6)), int(spread.ppf(1 - 1e-6)) + 1)
        wins = self._wins_needed(counts, labels)
        chances = stats.binom.sf(wins - 1, counts, (1 + self.gain / self.discordance) / 2)
        return float(spread.pmf(counts) @ chances)

    def _wins_needed(self, counts: Array, labels: int) -> Array:
        """(D,) least wins among so many discordant labels; one more than there are: none do."""
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
