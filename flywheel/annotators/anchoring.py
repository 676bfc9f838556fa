"""Anchoring: how much more often annotators give the model's answer when they are shown it.

Whether a sample is shown blind is drawn by chance, so shown minus blind is the effect of showing
and nothing else.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import scipy

_TAIL = 0.025


@dataclass(frozen=True, kw_only=True, slots=True)
class Compared:
    """An annotation held against the model's answer.

    Only of samples of which chance said whether the model's answer is shown: gold samples, which
    are always blind, and those without any model's answer are left out.
    """

    sample: str
    person: str
    is_blind: bool
    """answered without seeing the model's answer"""
    agrees: bool
    """with the model's answer, as the task has it"""
    slices: tuple[str, ...] = ()
    """that the sample belongs to"""


@dataclass(frozen=True, kw_only=True, slots=True)
class Anchoring:
    """How much more often the model's answer is given when it is shown."""

    difference: float
    """share that agrees when shown, less the share when blind; in -1..1"""
    low: float
    """of its interval"""
    high: float
    num_shown: int
    """annotations"""
    num_blind: int

    def is_biased(self, most: float) -> bool:
        """Whether it is significantly more than allowed."""
        return self.low > most


@dataclass(frozen=True, kw_only=True, slots=True)
class Anchorings:
    """Over all, and part by part; parts that were not answered both ways are missing."""

    overall: Anchoring | None
    annotators: Mapping[str, Anchoring]
    slices: Mapping[str, Anchoring]


def measure_anchoring(compared: Sequence[Compared]) -> Anchorings:
    """Over all annotators, of each annotator and on each slice, with 95 % intervals."""
    annotators = _split(compared, lambda one: [one.person])
    slices = _split(compared, lambda one: one.slices)
    return Anchorings(
        overall=_difference(compared, _TAIL),
        annotators=_measured(annotators, _TAIL),
        slices=_measured(slices, _TAIL),
    )


def biased_annotators(compared: Sequence[Compared], most: float) -> dict[str, Anchoring]:
    """Annotators whose anchoring is significantly more than `most`, corrected for their number.

    Formula: Holm's step-down (1979): with m annotators left each lower bound has the tail 0.025 / m;
    an annotator above `most` is taken out, and the rest is tested again. So no annotator at all is
    named wrongly with a chance of 0.975. The intervals returned are those that decided.
    """
    left = {
        person: given
        for person, given in _split(compared, lambda one: [one.person]).items()
        if _difference(given, _TAIL) is not None
    }
    biased: dict[str, Anchoring] = {}
    while left:
        found = {
            person: one
            for person, one in _measured(left, _TAIL / len(left)).items()
            if one.is_biased(most)
        }
        if not found:
            break
        biased |= found
        left = {person: given for person, given in left.items() if person not in found}
    return dict(sorted(biased.items()))


def _split(
    compared: Iterable[Compared], parts: Callable[[Compared], Iterable[str]]
) -> dict[str, list[Compared]]:
    found: dict[str, list[Compared]] = {}
    for comparison in compared:
        for part in parts(comparison):
            found.setdefault(part, []).append(comparison)
    return dict(sorted(found.items()))


def _measured(parts: Mapping[str, Sequence[Compared]], tail: float) -> dict[str, Anchoring]:
    found = {part: _difference(given, tail) for part, given in parts.items()}
    return {part: one for part, one in found.items() if one is not None}


def _difference(compared: Sequence[Compared], tail: float) -> Anchoring | None:
    """Newcombe's interval for the difference of two shares, from Wilson's for each.

    Formula: d - sqrt((p1 - l1)^2 + (u2 - p2)^2) .. d + sqrt((u1 - p1)^2 + (p2 - l2)^2), with
    Wilson's bounds l, u of the shares p1 and p2.
    Source: Newcombe, Statistics in Medicine 17 (1998) 873, method 10.
    Departure: effective numbers in Wilson's bounds, see `_effective`, because annotators who answer
    the same sample face the same picture and the same answer of the model.
    """
    shown = [comparison for comparison in compared if not comparison.is_blind]
    blind = [comparison for comparison in compared if comparison.is_blind]
    if not shown or not blind:
        return None
    (share, low, high), (other, other_low, other_high) = (
        _wilson(arm, tail) for arm in (shown, blind)
    )
    below = math.hypot(share - low, other_high - other)
    above = math.hypot(high - share, other - other_low)
    return Anchoring(
        difference=share - other,
        low=max(-1.0, share - other - below),
        high=min(1.0, share - other + above),
        num_shown=len(shown),
        num_blind=len(blind),
    )


def _wilson(arm: Sequence[Compared], tail: float) -> tuple[float, float, float]:
    """The share that agrees and its bounds."""
    agrees = np.array([one.agrees for one in arm], dtype=float)
    share, size = float(agrees.mean()), _effective(arm)
    z = float(scipy.stats.norm.isf(tail))
    centre = (share + z**2 / (2 * size)) / (1 + z**2 / size)
    half = z / (1 + z**2 / size) * math.sqrt(share * (1 - share) / size + z**2 / (4 * size**2))
    return share, max(0.0, centre - half), min(1.0, centre + half)


def _effective(arm: Sequence[Compared]) -> float:
    """How many annotations on samples of their own these are worth.

    Formula: n / max(1, V_cluster / V), V = sum of e^2 * n / (n - 1), V_cluster = sum over samples
    of (sum of e)^2 * C / (C - 1), e the distance from the share; the number of samples where all
    are equal, which says nothing of how alike a sample's are.
    Source: Kish 1965; linearised variance as in Binder 1983.
    """
    _, sample = np.unique([one.sample for one in arm], return_inverse=True)
    errors = np.array([one.agrees for one in arm], dtype=float)
    errors -= errors.mean()
    n, number = len(arm), int(sample.max()) + 1
    alone = float((errors**2).sum())
    if number in (1, n) or alone == 0:
        return float(number)
    together = float((np.bincount(sample, errors) ** 2).sum())
    return n / max(1.0, together * number / (number - 1) / (alone * n / (n - 1)))
