"""What a report says, in the terms of the gate: usable numbers, gaps, sentences about them.

An estimate with a NaN in it is no estimate. Refuses to know verdicts.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from flywheel.records import Entry, Estimate


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
