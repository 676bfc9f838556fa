"""How reliable people are by how often pairs of them agree, most pairs being independent.

Rougher than weighing every answer, but no few people can push each other up: a pair that agrees
far more often than the others suggest is left out. Refuses to know which answers are right.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from flywheel.records import Array

_ROUNDS = 60
_EXPECTED = 0.75
_FIRMNESS = 3.0
"""Shared samples that the expectation is worth."""
_CUT = 3.0
"""Standard deviations of agreement beyond which a pair says nothing."""
_MEDIAN_OF_BELL = 0.6745


class Pairs(NamedTuple):
    """Pairs of people, each once, and the samples that both answered; (N,) each."""

    first: Array
    second: Array
    number: Array
    """samples that both answered"""
    agreeing: Array
    """of these, with answers of one group"""


def robust_reliabilities(pairs: Pairs, num_people: int, coincide: float) -> Array:
    """(P,) reliability of each person; of one without any pair the expected one, 0.75.

    Model: a and b agree with r_a r_b + (1 - r_a) (1 - r_b) k, k the chance that two wrong answers
    coincide. Fitted by least squares, person by person in turn, each pair weighted by its samples
    and by Tukey's biweight of its excess, in units of its own standard deviation or, where all
    fit worse than that, of the usual misfit. Only an excess counts: nobody agrees too little by
    agreement.
    Source: Beaton and Tukey 1974 for the weights.
    """
    found: Array = np.full(num_people, _EXPECTED)
    share = pairs.agreeing / np.maximum(pairs.number, 1)
    one = np.concatenate([pairs.first, pairs.second])
    other = np.concatenate([pairs.second, pairs.first])
    for _ in range(_ROUNDS):
        slope = found - (1 - found) * coincide
        offset = (1 - found) * coincide
        weight = np.tile(pairs.number * _weights(pairs, share, found, coincide), 2)
        x, y = slope[other], np.tile(share, 2) - offset[other]
        top = np.bincount(one, weight * x * y, num_people) + _FIRMNESS * _EXPECTED
        fitted = top / (np.bincount(one, weight * x * x, num_people) + _FIRMNESS)
        # Half a step: people who are only compared with each other would swing.
        found = np.clip((found + fitted) / 2, 0.02, 0.98)
    return found


def _weights(pairs: Pairs, share: Array, found: Array, coincide: float) -> Array:
    one, two = found[pairs.first], found[pairs.second]
    expected = one * two + (1 - one) * (1 - two) * coincide
    deviation = np.sqrt(expected * (1 - expected) / np.maximum(pairs.number, 1))
    excess = (share - expected) / deviation
    usual = float(np.median(np.abs(excess))) / _MEDIAN_OF_BELL if len(excess) else 1.0
    outside = np.clip(excess / (_CUT * max(usual, 1.0)), 0.0, 1.0)
    return np.asarray((1 - outside**2) ** 2)
