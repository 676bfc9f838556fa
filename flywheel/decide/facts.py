"""What a report says, in the terms of the gate: usable numbers, gaps, sentences about them.

An estimate with a NaN in it is no estimate. Refuses to know verdicts.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from scipy import stats

from flywheel.records import Entry, Estimate

_POWER = 0.8


def usable(estimate: Estimate | None) -> Estimate | None:
    """The estimate, or None when one of its numbers is NaN or infinite."""
    if estimate is None:
        return None
    numbers = (estimate.value, estimate.low, estimate.high)
    return estimate if all(math.isfinite(number) for number in numbers) else None


def measured(entries: Sequence[Entry], name: str, *, is_kind: bool = False) -> Estimate | None:
    """The estimate of the first entry of a name, or of a kind, that has one."""
    for entry in entries:
        estimate = usable(entry.metric)
        if estimate is not None and name == (entry.kind if is_kind else entry.name):
            return estimate
    return None


def above(value: float, bound: float, *, higher_is_better: bool) -> float:
    """By how much a value is better than a bound; negative when it is worse."""
    return value - bound if higher_is_better else bound - value


def told(estimate: Estimate) -> str:
    """The number with its interval and its samples, in words."""
    return (
        f"{estimate.value:.3g} ({estimate.low:.3g} to {estimate.high:.3g}, "
        f"{estimate.num_samples} samples)"
    )


def samples_for(gain: float, difference: Estimate, min_gain: float, alpha: float) -> int | None:
    """Test samples with which a true gain of this size is promoted four times in five.

    Formula: n * ((z_alpha + z_power) / z_alpha * (value - low) / (gain - min_gain))^2. The measured
    distance to the lower bound is z_alpha standard errors and shrinks with the root of n; for
    alpha = 0.05 and a rate it is the usual 6.18 p_d / gain^2, p_d the share of discordant pairs.
    None when the gain is not above min_gain: then no number of samples would do.
    """
    if gain <= min_gain:
        return None
    z_alpha, z_power = float(stats.norm.isf(alpha)), float(stats.norm.ppf(_POWER))
    width = (z_alpha + z_power) / z_alpha * (difference.value - difference.low)
    # Not below what there is: the bound itself says that these were not enough.
    return max(
        math.ceil(difference.num_samples * (width / (gain - min_gain)) ** 2),
        difference.num_samples + 1,
    )
