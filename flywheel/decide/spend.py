"""The lifetime error budget: how much of alpha one challenge may use.

Refuses to know what a challenge is; it only counts them within one generation of the test set.
"""

from __future__ import annotations


def share_of_alpha(alpha: float, number: int, challenges: int) -> float:
    """The error rate for challenge `number` of `challenges`, counted from 1.

    Formula: alpha / (number * H), H = 1 + 1/2 + ... + 1/challenges, which sums to alpha over the
    challenges, so that the chance that any of them promotes a model without gain stays below
    alpha (union bound). The first challenges get most, as many test sets never see the last.
    Source: alpha spending, Lan and DeMets (1983), with Zipf's weights.

    Raises:
        ValueError: alpha is outside (0, 1), or number is outside 1..challenges.
    """
    if not 0 < alpha < 1:
        raise ValueError(f"alpha = {alpha}; it is a chance between 0 and 1, set gate.alpha to one")
    if not 1 <= number <= challenges:
        raise ValueError(
            f"number = {number}; a test set bears challenges 1 to {challenges}, "
            "renew it by fresh labels or raise gate.challenges"
        )
    return alpha / (number * sum(1 / other for other in range(1, challenges + 1)))
