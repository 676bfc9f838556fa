"""The lifetime error budget: how much of alpha one candidate may use.

Refuses to know what a candidate is; it only counts them.
"""

from __future__ import annotations

import math


def share_of_alpha(alpha: float, number: int) -> float:
    """The error rate for the `number`-th candidate judged, counted from 1.

    Formula: alpha * 6 / (pi^2 number^2), which sums to alpha over all numbers, so that the chance
    of ever promoting a worse model stays below alpha however many nights are run (union bound).
    Source: Basel series; spending as in Foster and Stine's alpha-investing (2008), without refunds.

    Raises:
        ValueError: number is below 1, or alpha is outside (0, 1).
    """
    if number < 1:
        raise ValueError(f"number = {number}; candidates are counted from 1")
    if not 0 < alpha < 1:
        raise ValueError(f"alpha = {alpha}; it is a chance between 0 and 1")
    return alpha * 6 / (math.pi * number) ** 2
