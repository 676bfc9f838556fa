"""The anytime-valid test: an e-process that bets on a gain over fresh paired outcomes.

If there is no gain, the stake ever reaches 1/alpha with probability at most alpha, however often
it is looked at (Ville's inequality). So the evidence can be read every night, and a challenge may
stop at any time, without correcting for having looked. The e-detector shares it to notice from which
night on answers fail more often than when the model was new: its evidence begins anew every night, so
that it does not matter how long all was well before.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import scipy

from flywheel.errors import TaskError
from flywheel.records import Array, FreshOutcomes, Watch

_BETS = np.sqrt((np.arange(16) + 0.5) / 16)
"""Quantiles of Beta(2, 1): of the mixtures tried, the only one good for even and uneven draws."""

_TILTS = np.geomspace(0.05, 0.5, 8)
"""In units of 1 / (scale of the gains); small, so that tanh hardly saturates at large gains."""

_NUM_SCALE = 10
"""How many nonzero gains fix the scale where gains are unbounded."""

_LARGEST_LOG = 700.0
"""float64 overflows above exp(709)."""


def e_value(outcomes: FreshOutcomes, min_gain: float) -> float:
    """Evidence that the candidate's gain in production is above `min_gain`; 1 says nothing.

    It is the last value of `e_values`; for bounded gains it does not depend on the order of the
    labels. Ville's inequality would also allow the running maximum, but then the verdict would
    depend on that order, and a model could be promoted on evidence that tonight's labels refute.

    Raises:
        TaskError: a gain is not a finite number, or is outside the bounds of its score.
        ValueError: a scale is impossible, gains and scales differ in number, or min_gain is
            out of range.
    """
    path = e_values(outcomes, min_gain)
    return float(path[-1]) if len(path) else 1.0


def e_values(outcomes: FreshOutcomes, min_gain: float) -> Array:
    """(N,) the e-process: the evidence after each label, in the order of the labels.

    Formula: mean over bets b of prod_i f(b, x_i), with the factors of `log_factors`.
    Source: Waudby-Smith and Ramdas, Estimating means of bounded random variables by betting (2024).
    Departure: the bets are a fixed mixture; they are not fitted to the labels seen so far.

    Raises:
        TaskError: a gain is not a finite number, or is outside the bounds of its score.
        ValueError: a scale is impossible, gains and scales differ in number, or min_gain is
            out of range.
    """
    if not outcomes.gains:
        return np.ones(0)
    logs, start = log_factors(outcomes, min_gain)
    stakes = np.cumsum(logs, axis=1)
    # Logarithm of the mean over bets, with the largest factored out: stakes overflow otherwise.
    largest = stakes.max(axis=0)
    evidence = largest + np.log(np.mean(np.exp(stakes - largest), axis=0))
    # Until the scale is fixed nothing has been bet, so the evidence is 1.
    evidence[:start] = 0.0
    return np.asarray(np.exp(np.minimum(evidence, _LARGEST_LOG)))


def log_factors(outcomes: FreshOutcomes, min_gain: float) -> tuple[Array, int]:
    """(B, N) log of the factor by which each bet multiplies its stake, and the first label to read at.

    Bounded gains: f = 1 + b x, x = scale (gain - min_gain) / (1 + min_gain) in -1..1. If the mean
    gain in production is at most min_gain, every expected factor is at most 1 whatever the
    distribution: under Poisson sampling the expected product over the drawn labels is the product
    over the whole population of 1 + b c (gain - min_gain), c the constant of the draw: the least
    inclusion probability among samples on which the two models may differ. Elsewhere the gain is 0
    whatever the label, so a scale above 1 risks nothing there.
    Unbounded gains: f = 1 + tanh(b x / r) = exp(b x / r) / cosh(b x / r), x = scale (gain - min_gain)
    and r the root mean square of the first ten nonzero x. Exact when gain - min_gain is symmetric
    about a value of at most 0, as for two models of which neither is better: signs are then fair
    coins, independent of the sizes, so r may come from the tested labels as long as no evidence is
    read before r is fixed. f is never below the bound exp(l x - l^2 x^2 / 2) of de la Pena (1999).
    Not exact for the mean alone: without a bound no test is (Bahadur and Savage 1956), since one
    rare large loss that has not occurred yet can hide behind many small gains.
    """
    shifted, scales = _checked(outcomes, min_gain)
    if outcomes.is_bounded:
        return np.log1p(np.outer(_BETS, scales * shifted / (1 + min_gain))), 0
    values = scales * shifted
    first = np.flatnonzero(values)[:_NUM_SCALE]
    if len(first) < _NUM_SCALE:
        return np.zeros((len(_TILTS), len(values))), len(values)
    # log(1 + tanh t) = t - log cosh t, written so that neither exp overflows.
    tilted = np.outer(_TILTS, values / math.sqrt(float(np.mean(values[first] ** 2))))
    return tilted - np.logaddexp(tilted, -tilted) + math.log(2), int(first[-1])


def _checked(outcomes: FreshOutcomes, min_gain: float) -> tuple[Array, Array]:
    """(N,) gains minus min_gain, and (N,) scales."""
    gains, scales = np.asarray(outcomes.gains, float), np.asarray(outcomes.scales, float)
    if len(gains) != len(scales):
        raise ValueError(
            f"{len(gains)} gains have {len(scales)} scales. Give each label one gain and one scale"
        )
    if not math.isfinite(min_gain) or min_gain < 0 or (outcomes.is_bounded and min_gain >= 1):
        raise ValueError(
            f"min_gain = {min_gain}; it must be 0 or more, and below 1 for a bounded score. "
            "Set gate.min_gain accordingly"
        )
    limit = 1.0 if outcomes.is_bounded else math.inf
    odd = gains[~(np.isfinite(gains) & (np.abs(gains) <= limit))]
    if len(odd):
        allowed = "-1 to 1" if outcomes.is_bounded else "of finite numbers"
        raise TaskError(
            f"gain = {odd[0]}; it must be in the range {allowed}. Fix scores() of the task"
        )
    # A bet must not lose more than its stake. A gain of 0 may have a scale above 1.
    largest = np.where(gains != 0, 1.0, (1 + min_gain) / min_gain if min_gain else math.inf)
    wrong = scales[~((scales > 0) & np.isfinite(scales) & (scales <= largest))]
    if len(wrong):
        raise ValueError(
            f"scale = {wrong[0]}; it must be in (0, 1], or above 0 for a gain of 0. Give the "
            "constant of the draw divided by the label's own inclusion probability"
        )
    return gains - min_gain, scales


def rate_evidence(num_bad: int, number: int, limit: float) -> float:
    """Evidence that something happens at a rate above `limit`, from counts; 1 says nothing.

    The e-process of `e_values` for gains of 1 and 0, so it may be looked at after every request. While
    the rate is at most `limit`, it ever reaches 1/alpha with probability at most alpha.
    """
    both = FreshOutcomes(gains=(1.0, 0.0), scales=(1.0, 1.0), is_bounded=True, num_new=0)
    logs, _ = log_factors(both, limit)
    stakes = num_bad * logs[:, 0] + (number - num_bad) * logs[:, 1]
    largest = stakes.max()
    evidence = largest + math.log(float(np.mean(np.exp(stakes - largest))))
    return math.exp(min(evidence, _LARGEST_LOG))


FEWEST = 200
"""outcomes of a model that complete its reference"""
_UNSURE = 0.01
"""chance that the rate of the reference is above what it is taken for"""
_LARGEST = 1e300


def watch(before: Watch, failed: Sequence[bool], nights: float) -> Watch:
    """Take in the outcomes of a night: of the reference first, then beside it.

    Formula: for each bet, M <- (M + 1) prod f, f the factors of `log_factors` against a rate of failures
    of at most q; an alarm where the mean of M over the bets reaches `nights`, after which it begins anew.
    q is the upper 99 % bound of Clopper and Pearson of the reference. As long as the rate is at most q,
    a false alarm comes once in so many nights on average, or more rarely.
    Source: Shin, Ramdas and Rinaldo, E-detectors: a nonparametric framework for sequential change
    detection (2024), the Shiryaev-Roberts kind.

    Args:
        before: of the night before; one without outcomes begins.
        failed: of each outcome of the night, of the same model.
        nights: between false alarms.
    """
    number, num_failed = len(failed), sum(failed)
    known, bad = before.num_reference, before.num_reference_failed
    if known < FEWEST:
        return Watch(
            name=before.name, num_reference=known + number, num_reference_failed=bad + num_failed
        )
    most = rate_bound(before)
    stakes = np.zeros(1) if before.is_alarm or not before.stakes else np.array(before.stakes)
    if number and most < 1:
        outcomes = FreshOutcomes(
            gains=tuple(float(one) for one in failed),
            scales=(1.0,) * number,
            is_bounded=True,
            num_new=number,
        )
        logs = log_factors(outcomes, most)[0].sum(axis=1)
        stakes = np.minimum((stakes + 1) * np.exp(np.minimum(logs, 690.0)), _LARGEST)
    return Watch(
        name=before.name,
        num_reference=known,
        num_reference_failed=bad,
        num_new=number,
        num_new_failed=num_failed,
        stakes=tuple(stakes.tolist()),
        is_alarm=bool(stakes.mean() >= nights),
    )


def rate_bound(known: Watch) -> float:
    """Return the rate of failures that the reference is taken for, 0..1."""
    bad, good = known.num_reference_failed, known.num_reference - known.num_reference_failed
    return float(scipy.stats.beta.ppf(1 - _UNSURE, bad + 1, good)) if good else 1.0
