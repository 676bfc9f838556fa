"""The e-detector: notices from which night on answers fail more often than when the model was new.

It shares the e-process of the gate: evidence against "no more often than then" may be read every night,
and begins anew with each of them, so that it does not matter how long all was well before.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy import stats

from flywheel.metrics.eprocess import log_factors
from flywheel.records import FreshOutcomes, Watch

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
    return float(stats.beta.ppf(1 - _UNSURE, bad + 1, good)) if good else 1.0
