"""Evidence for a gain that may be read every night: a bet against "no gain" on fresh labels.

Whoever bets on a gain that is not there multiplies the stake by 1/alpha with a chance of at most
alpha, at whatever night one looks (Ville's inequality). Refuses to know who challenges whom,
what the stake must reach and which night it is.
"""

from __future__ import annotations

import math

import numpy as np

from flywheel.errors import TaskError
from flywheel.records import Array, FreshOutcomes

_BETS = np.sqrt((np.arange(16) + 0.5) / 16)
"""Quantiles of Beta(2, 1): among the mixtures tried the only one good for even and uneven draws."""

_TILTS = np.geomspace(0.05, 0.5, 8)
"""In units of one over the scale of the gains; small ones, so that large gains hardly saturate."""

_NUM_SCALE = 10
"""Gains other than zero that fix the scale where gains have no bound."""

_LARGEST_LOG = 700.0
"""exp of more is infinite."""


def e_value(outcomes: FreshOutcomes, min_gain: float) -> float:
    """Evidence that the candidate's gain in production is above `min_gain`; 1 says nothing.

    The last value of `e_values`, for which the order of the labels does not matter where gains
    are bounded. Ville's inequality would also allow its running maximum, but then the same labels
    in another order could give another verdict, and a model could be promoted on evidence that
    tonight's labels have taken back.

    Raises:
        TaskError: a gain is not a number, or is outside the bounds that its score promises.
        ValueError: a scale is outside (0, 1], their number is another, or min_gain is impossible.
    """
    path = e_values(outcomes, min_gain)
    return float(path[-1]) if len(path) else 1.0


def e_values(outcomes: FreshOutcomes, min_gain: float) -> Array:
    """(N,) the evidence after each label.

    Formula: mean over bets b of prod_i f(b, x_i), with the factors of `log_factors`.
    Source: Waudby-Smith and Ramdas, Estimating means of bounded random variables by betting
    (2024); departs in the bets: a fixed mixture, not fitted as labels come.

    Raises:
        TaskError: a gain is not a number, or is outside the bounds that its score promises.
        ValueError: a scale is outside (0, 1], their number is another, or min_gain is impossible.
    """
    if not outcomes.gains:
        return np.ones(0)
    logs, start = log_factors(outcomes, min_gain)
    stakes = np.cumsum(logs, axis=1)
    largest = stakes.max(axis=0)
    evidence = largest + np.log(np.mean(np.exp(stakes - largest), axis=0))
    # Before the scale is fixed nothing has been bet.
    evidence[:start] = 0.0
    return np.asarray(np.exp(np.minimum(evidence, _LARGEST_LOG)))


def log_factors(outcomes: FreshOutcomes, min_gain: float) -> tuple[Array, int]:
    """(B, N) logarithms of what each bet multiplies its stake by, and the first label to look at.

    Bounded gains: f = 1 + b x, x = scale (gain - min_gain) / (1 + min_gain) in -1..1. Under a mean
    gain of at most min_gain in production every expected factor is at most 1, whatever the
    distribution: prod over a draw of 1 + b c (gain - min_gain), c its least inclusion probability,
    is what a Poisson draw expects.
    Other gains: f = 1 + tanh(b x / r) = exp(b x / r) / cosh(b x / r), x = scale (gain - min_gain)
    and r the root mean square of the first ten x that are not zero. Exact when gain - min_gain is
    symmetric about a value of at most 0, as for two models of which neither is better: signs then
    are fair coins that know nothing of the sizes, so r may come from the tested labels, as long as
    nobody looks before. It is never below the bound exp(l x - l^2 x^2 / 2) of de la Pena (1999).
    Not exact for a mean alone: without a bound no test is (Bahadur and Savage 1956), and
    one rare large loss that has not come yet hides behind many small gains.
    """
    shifted, scales = _checked(outcomes, min_gain)
    if outcomes.is_bounded:
        return np.log1p(np.outer(_BETS, scales * shifted / (1 + min_gain))), 0
    values = scales * shifted
    first = np.flatnonzero(values)[:_NUM_SCALE]
    if len(first) < _NUM_SCALE:
        return np.zeros((len(_TILTS), len(values))), len(values)
    tilted = np.outer(_TILTS, values / math.sqrt(float(np.mean(values[first] ** 2))))
    return tilted - np.logaddexp(tilted, -tilted) + math.log(2), int(first[-1])


def _checked(outcomes: FreshOutcomes, min_gain: float) -> tuple[Array, Array]:
    """(N,) gains less min_gain, and (N,) scales."""
    gains, scales = np.asarray(outcomes.gains, float), np.asarray(outcomes.scales, float)
    if len(gains) != len(scales):
        raise ValueError(
            f"{len(gains)} gains have {len(scales)} scales; give each label one of both"
        )
    wrong = scales[~((scales > 0) & (scales <= 1))]
    if len(wrong):
        raise ValueError(
            f"scale = {wrong[0]}; it is in (0, 1], least inclusion probability / the label's own"
        )
    if not math.isfinite(min_gain) or min_gain < 0 or (outcomes.is_bounded and min_gain >= 1):
        raise ValueError(f"min_gain = {min_gain}; it is 0 or more, below 1 for a bounded score")
    limit = 1.0 if outcomes.is_bounded else math.inf
    odd = gains[~(np.isfinite(gains) & (np.abs(gains) <= limit))]
    if len(odd):
        allowed = "-1 to 1" if outcomes.is_bounded else "finite numbers"
        raise TaskError(f"gain = {odd[0]}; allowed are {allowed}, mend scores() of the task")
    return gains - min_gain, scales
