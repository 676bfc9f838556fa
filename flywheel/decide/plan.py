"""How many fresh labels, and nights, a promotion takes: for a gain of a given size, and for an open challenge.

The future of an open challenge is drawn from what the labels so far have shown, with its own uncertainty:
sometimes the true gain is larger than the measured one, sometimes smaller or none.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import scipy

from flywheel.metrics.eprocess import log_factors
from flywheel.records import Array, FreshOutcomes

_POWER = 0.8
_MOST_LABELS = 20_000
_NEGLIGIBLE = 1e-9
"""chance of a number of discordant labels; all that are rarer change the power by less than 2e-5"""


@dataclass(frozen=True, kw_only=True, slots=True)
class Planned:
    """Labels and nights that a gain of one size takes."""

    gain: float
    num_labels: int | None
    """None: more than 20,000, or the gain is not above min_gain"""
    nights: int | None


class Leaning(NamedTuple):
    """A draw that leans to where two models differ, once their challenge is open."""

    after: int
    """labels that are drawn evenly before"""
    discordance: float
    """share of the later labels on which exactly one model is right"""


def labels_for_gain(
    gain: float,
    discordance: float,
    alpha: float,
    *,
    min_gain: float = 0.0,
    leaning: Leaning | None = None,
) -> int | None:
    """Fresh labels with which a true gain of a rate is promoted with a power of 0.8.

    Formula: the number of labels that exactly one model gets right is binomial with probability
    `discordance`; (1 + gain / discordance) / 2 of these are wins. The power sums the probabilities
    of all wins and losses whose e-value reaches 1 / alpha. A leaning draw has another share of
    discordant labels, and as many wins among them.
    Departure: only the last night counts, while in reality an earlier night sometimes suffices.

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
    leans = leaning or Leaning(_MOST_LABELS, discordance)
    case = _Case(gain, discordance, min_gain, leans, math.log(1 / alpha))
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
    gains: Sequence[float],
    discordance: float,
    alpha: float,
    labels_per_night: float,
    leaning: Callable[[float], Leaning | None] = lambda _: None,
) -> tuple[Planned, ...]:
    """Labels and nights for each gain, for models that differ on at least `discordance` of samples.

    `leaning` gives the draw for a discordance; None: it stays even.
    """
    rows = []
    for gain in gains:
        differs = max(discordance, gain)
        labels = labels_for_gain(gain, differs, alpha, leaning=leaning(differs))
        nights = None if labels is None else math.ceil(labels / labels_per_night)
        rows.append(Planned(gain=gain, num_labels=labels, nights=nights))
    return tuple(rows)


@dataclass(frozen=True, slots=True)
class _Case:
    """The planned test for one gain: wins, losses and ties and what they do to each bet."""

    gain: float
    discordance: float
    min_gain: float
    leaning: Leaning
    needed: float

    def power(self, labels: int) -> float:
        """Probability that the evidence of so many labels reaches the threshold."""
        even = min(labels, self.leaning.after)
        parts = ((even, self.discordance), (labels - even, self.leaning.discordance))
        chance = np.convolve(
            *(scipy.stats.binom.pmf(np.arange(n + 1), n, share) for n, share in parts)
        )
        counts = np.flatnonzero(chance > _NEGLIGIBLE)
        wins = self._wins_needed(counts, labels)
        chances = scipy.stats.binom.sf(wins - 1, counts, (1 + self.gain / self.discordance) / 2)
        return float(chance[counts] @ chances)

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
            scales=(1.0, 1.0, 1.0),
            is_bounded=True,
            num_new=0,
        )
        win, loss, tie = log_factors(three, self.min_gain)[0].T[:, :, None]
        stakes = wins * win + (counts - wins) * loss + (labels - counts) * tie
        return np.asarray(np.logaddexp.reduce(stakes, axis=0) - math.log(len(stakes)))


_FUTURES = 200
_TAIL = 0.1
"""of the futures on either side of the interval"""
_SEED = 0
"""fixed: the same labels always have the same forecast"""


@dataclass(frozen=True, kw_only=True, slots=True)
class Forecast:
    """How many more fresh labels it takes until the evidence suffices."""

    low: int | None
    """fewer in one of ten futures; None: they do not suffice within `ahead` in nine of ten"""
    high: int | None
    """more in one of ten futures; None: more than `ahead`, or never"""
    chance: float
    """0..1, of the evidence to suffice within `ahead`"""
    ahead: int
    """fresh labels that were looked ahead"""


def forecast(outcomes: FreshOutcomes, min_gain: float, alpha: float, ahead: int) -> Forecast:
    """The number of labels until the e-value reaches 1 / alpha, with an 80 % interval.

    Formula: in each of 200 futures the outcomes so far and two imagined ones, a win and a loss of
    usual size that count half, get weights of a flat Dirichlet distribution; `ahead` labels are drawn
    with these weights, and their factors go on from the stakes so far.
    Source: Rubin, The Bayesian bootstrap (1981).
    Departure: the two imagined outcomes, without which a challenge that has seen only wins, or no
    difference at all, would know its future for certain.
    """
    if ahead <= 0 or not outcomes.gains:
        return Forecast(low=None, high=None, chance=0.0, ahead=max(ahead, 0))
    logs, start = log_factors(_and_imagined(outcomes), min_gain)
    number = len(outcomes.gains)
    if start >= number:  # the scale of the gains is not known yet
        return Forecast(low=None, high=None, chance=1.0, ahead=ahead)
    rng = np.random.default_rng(_SEED)
    shapes = np.concatenate([np.ones(number), np.full(logs.shape[1] - number, 0.5)])
    weights = np.cumsum(rng.standard_gamma(shapes, (_FUTURES, len(shapes))), axis=1)
    marks = rng.random((_FUTURES, ahead)) * weights[:, -1:]
    stakes = logs[:, :number].sum(axis=1)
    waits = [
        _first(stakes, logs[:, np.searchsorted(edges, mark)], math.log(1 / alpha))
        for edges, mark in zip(weights, marks, strict=True)
    ]
    known = np.sort(np.array([math.inf if wait is None else wait for wait in waits]))
    low, high = (known[int(share * (_FUTURES - 1))] for share in (_TAIL, 1 - _TAIL))
    return Forecast(
        low=None if math.isinf(low) else int(low),
        high=None if math.isinf(high) else int(high),
        chance=float(np.isfinite(known).mean()),
        ahead=ahead,
    )


def _first(stakes: Array, logs: Array, needed: float) -> int | None:
    """After how many labels the evidence suffices, given the logs (B, n) of their factors."""
    paths = stakes[:, None] + np.cumsum(logs, axis=1)
    largest = paths.max(axis=0)
    enough = largest + np.log(np.exp(paths - largest).mean(axis=0)) >= needed
    return int(enough.argmax()) + 1 if enough.any() else None


def _and_imagined(outcomes: FreshOutcomes) -> FreshOutcomes:
    """The outcomes, then a win and a loss of the usual size and scale."""
    gains, scales = np.asarray(outcomes.gains), np.asarray(outcomes.scales)
    differs = gains != 0
    size = float(np.median(np.abs(gains[differs]))) if differs.any() else 1.0
    scale = float(np.median(scales[differs] if differs.any() else scales))
    return FreshOutcomes(
        gains=(*outcomes.gains, size, -size),
        scales=(*outcomes.scales, scale, scale),
        is_bounded=outcomes.is_bounded,
        num_new=0,
    )
