"""Pace: minutes per answer of each annotator, from the times that Label Studio measured.

Label Studio counts while a labeling task is open, so a lunch break looks like an hour of work.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import scipy

from flywheel.records import Array

_TAIL = 0.025
_DEVIATIONS = 2.5
"""of the logarithm of times, above the median, to the cap"""
_QUARTILES = 1.349
"""Standard deviations between the quartiles of a bell curve."""
_FEWEST = 10
"""Answers of a person with a median of their own."""
_SHORTEST = 1 / 60
"""Minutes; in a logarithm less is taken for this much."""
_FACTORS = (3.0, 20.0)
"""Least and most medians to the cap."""
_LEAST_KEPT = 0.9
_MOST_LOG = 30.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Pace:
    """How long answers take, in minutes."""

    median: float
    mean: float
    """with answers above the cap counted as ordinary ones; times the number of answers it is the
    work that was done"""
    low: float
    """of the interval of the mean, with 0.95; of one answer nothing is known, so 0"""
    high: float
    """and infinite"""
    cap: float
    """above which a labeling task is taken to have been left open"""
    num_answers: int
    """with a time"""


def measure_pace(seconds: Mapping[str, Sequence[float]]) -> dict[str, Pace]:
    """The pace of each person; who has no time at all is missing.

    The cap is where honest times end. They are about log-normal (most pictures take alike long, a
    few are hard), so it is the person's median times exp(2.5 s), s the standard deviation of
    their logarithm, from the quartiles of all annotators' times over their own medians: above it is
    0.6 % of honest work. It is kept within 3 and 20 medians. Of less than 10 answers, which may be
    mostly lunch breaks, the median is that of all annotators.
    How long an answer above the cap took is not known, only that the labeling task was left open,
    so it counts as an ordinary one: the mean is that of the answers up to the cap, divided by what
    an honest log-normal mean loses by it, Phi(d - s) / Phi(d) with d = log(cap / median) / s.
    Counting it as the cap (winsorizing) would add half of the mean for one break in ten answers.
    The interval is Student's on a logarithmic scale, mean * exp(+- t * error), because times are
    skewed; error is the larger one of the mean's own, sd / mean / sqrt(n), and Cox's for
    log-normal times, sqrt(v / n + v^2 / (2 (n - 1))), v the variance of the logarithm.
    Sources: trimming as in Tukey and McLaughlin 1963, from above only; Cox's interval in Zhou and
    Gao, Statistics in Medicine 16 (1997) 783.

    Args:
        seconds: person -> how long each answer took; NaN, infinite and negative ones are no times
            and are left out. A time of 0 is one: accepting takes a key.
    """
    times = {person: _times(given) for person, given in seconds.items()}
    known = {person: given for person, given in sorted(times.items()) if len(given)}
    if not known:
        return {}
    usual = float(np.median(np.concatenate(list(known.values()))))
    middles = {
        person: max(float(np.median(given)) if len(given) >= _FEWEST else usual, _SHORTEST)
        for person, given in known.items()
    }
    honest = _fit(
        np.concatenate([_logs(given / middles[person]) for person, given in known.items()])
    )
    return {person: _pace(given, middles[person], honest) for person, given in known.items()}


class _Honest(NamedTuple):
    """Times of honest work, as multiples of a person's median."""

    cap: float
    kept: float
    """mean of those up to the cap, over the mean of all"""


def _times(seconds: Sequence[float]) -> Array:
    given = np.asarray(seconds, dtype=float)
    return np.asarray(given[np.isfinite(given) & (given >= 0)] / 60)


def _logs(minutes: Array) -> Array:
    return np.asarray(np.log(np.maximum(minutes, _SHORTEST)))


def _fit(logs: Array) -> _Honest:
    low, high = np.quantile(logs, [0.25, 0.75])
    deviation = max(float(high - low) / _QUARTILES, 1e-3)
    cap = min(max(math.exp(_DEVIATIONS * deviation), _FACTORS[0]), _FACTORS[1])
    distance = math.log(cap) / deviation
    kept = float(scipy.stats.norm.cdf(distance - deviation) / scipy.stats.norm.cdf(distance))
    return _Honest(cap=cap, kept=max(kept, _LEAST_KEPT))


def _pace(minutes: Array, middle: float, honest: _Honest) -> Pace:
    cap = middle * honest.cap
    kept = minutes[minutes <= cap]
    if not len(kept):  # slower than all others, and too few to say whether always
        kept = np.full(len(minutes), cap)
    mean = float(kept.mean()) / honest.kept
    low, high = _interval(kept, mean)
    return Pace(
        median=float(np.median(minutes)),
        mean=mean,
        low=low,
        high=high,
        cap=cap,
        num_answers=len(minutes),
    )


def _interval(minutes: Array, mean: float) -> tuple[float, float]:
    number = len(minutes)
    if number < 2 or mean == 0:
        return 0.0, math.inf
    own = float(minutes.var(ddof=1) / minutes.mean() ** 2) / number
    spread = float(_logs(minutes).var(ddof=1))
    error = math.sqrt(max(own, spread / number + spread**2 / (2 * (number - 1))))
    factor = math.exp(min(float(scipy.stats.t.isf(_TAIL, number - 1)) * error, _MOST_LOG))
    return mean / factor, mean * factor
