"""What an open challenge has ahead: when its evidence may suffice, and whether it ever will.

The future is drawn from what the labels so far have shown, with its own uncertainty: sometimes the
true gain is larger than the measured one, sometimes smaller or none.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from flywheel.metrics.eprocess import log_factors
from flywheel.records import Array, FreshOutcomes

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
