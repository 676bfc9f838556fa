"""When a candidate may challenge the champion, when it gives up, and how much alpha it may spend.

A label is sealed until a challenge opens it, so it is fresh evidence for exactly one challenge.
The number of challenges of one test set (a generation) is fixed in advance, and together they
spend one error budget, alpha. A challenge is stored, so it can run over several nights.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from flywheel.records import Challenge, FreshOutcomes
from flywheel.settings.judging import Gate


def share_of_alpha(alpha: float, number: int, challenges: int) -> float:
    """The error rate for challenge `number` of `challenges`, counted from 1.

    Formula: alpha / (number * H), H = 1 + 1/2 + ... + 1/challenges, which sums to alpha over the
    challenges: the probability that any of them promotes a model without a gain is at most alpha
    (union bound). Early challenges get the most, since many test sets never reach the last one.
    Source: alpha spending, Lan and DeMets (1983).
    Departure: Zipf's weights over challenges in place of a spending function over time.

    Raises:
        ValueError: alpha is outside (0, 1), or number is outside 1..challenges.
    """
    if not 0 < alpha < 1:
        raise ValueError(
            f"alpha = {alpha}; it must be a probability between 0 and 1. Set gate.alpha, to 0.05 for example"
        )
    if not 1 <= number <= challenges:
        raise ValueError(
            f"number = {number}; a test set allows challenges 1 to {challenges}. "
            "Renew it with fresh labels, or raise gate.challenges"
        )
    return alpha / (number * sum(1 / other for other in range(1, challenges + 1)))


@dataclass(frozen=True, kw_only=True, slots=True)
class Standing:
    """What is known tonight, before a challenge opens or goes on."""

    last: Challenge | None
    """the newest one; None before the first"""
    is_closed: bool
    """whether it was promoted, rejected or given up"""
    candidate_digest: str | None
    """None when nothing new was trained"""
    champion_digest: str | None
    """None before the first release"""
    num_sealed: int
    """labels that no decision has used yet"""
    night: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Opening:
    """Tonight's challenge, or why there is none."""

    challenge: Challenge | None
    """a new one, or the open one that goes on"""
    stale: Challenge | None
    """an open one that must close, because its champion no longer serves"""
    reason: str
    """why there is no challenge; empty when there is one"""


def next_challenge(standing: Standing, gate: Gate) -> Opening:
    """The challenge of this night: an open one goes on, else a new one opens if it may.

    A new challenge takes all sealed labels and the next share of alpha. After `gate.challenges` of
    them the test set is used up, and `gate.renewal_samples` sealed labels start the next generation
    with a full budget. The bound for a generation holds if its settings do not change meanwhile.
    """
    last = standing.last
    is_open = last is not None and not standing.is_closed
    if last is not None and is_open and last.champion_digest == standing.champion_digest:
        return Opening(challenge=last, stale=None, reason="")
    stale = last if is_open else None
    candidate, champion = standing.candidate_digest, standing.champion_digest
    reason = _no_pair(standing) or _too_few(standing, gate)
    if candidate is None or champion is None or reason:
        return Opening(challenge=None, stale=stale, reason=reason)
    generation, number = _place(last, gate)
    challenge = Challenge(
        generation=generation,
        number=number,
        challenger_digest=candidate,
        champion_digest=champion,
        alpha=share_of_alpha(gate.alpha, number, gate.challenges),
        opened_night=standing.night,
    )
    return Opening(challenge=challenge, stale=stale, reason="")


def gives_up(outcomes: FreshOutcomes, e_value: float, gate: Gate) -> str:
    """Why an undecided challenge ends here; "" when it goes on.

    Ending early never raises the error rate, since unused evidence promotes no model. The gain is
    the mean of the outcomes, weighted by their scales.
    """
    used = len(outcomes.gains)
    if used >= gate.challenge_samples:
        return (
            f"{used} fresh labels are used of {gate.challenge_samples} allowed, "
            f"and the evidence is {e_value:.3g}; train a better candidate"
        )
    if used < 2 * gate.min_fresh_samples:
        return ""
    gain = float(np.average(outcomes.gains, weights=outcomes.scales))
    if gain > gate.min_gain:
        return ""
    return (
        f"after {used} fresh labels the gain is {gain:.3g}, not above "
        f"{gate.min_gain:g}; train a better candidate"
    )


def _no_pair(standing: Standing) -> str:
    """Why there are no two models to compare; "" when there are."""
    last, candidate = standing.last, standing.candidate_digest
    if candidate is None:
        return "nothing new was trained, so there is no challenger; train a candidate"
    if standing.champion_digest is None:
        return "nothing serves yet, so there is no champion to challenge; release a first model"
    if candidate == standing.champion_digest:
        return f"candidate {candidate[:12]} serves already; train another"
    pair = (candidate, standing.champion_digest)
    if last is not None and pair == (last.challenger_digest, last.champion_digest):
        # A second try on new labels would be valid, but it would use up a challenge of the budget.
        return f"candidate {candidate[:12]} had its challenge in night {last.opened_night}; train another"
    return ""


def _too_few(standing: Standing, gate: Gate) -> str:
    """How many sealed labels are missing, and what for; "" when there are enough."""
    have, last = standing.num_sealed, standing.last
    if last is not None and _is_spent(last, gate):
        needed = max(gate.renewal_samples, gate.min_fresh_samples)
        missing = needed - have
        if missing <= 0:
            return ""
        return (
            f"the test set is spent after {last.number} challenges; {missing} more fresh labels "
            f"renew it ({have} of {needed} are there)"
        )
    missing = gate.min_fresh_samples - have
    if missing <= 0:
        return ""
    return (
        f"{have} fresh labels are too few to open a challenge, {gate.min_fresh_samples} are "
        f"needed; label {missing} more samples of the probability share"
    )


def _place(last: Challenge | None, gate: Gate) -> tuple[int, int]:
    """Generation and number of a new challenge."""
    if last is None:
        return 1, 1
    if _is_spent(last, gate):
        return last.generation + 1, 1
    return last.generation, last.number + 1


def _is_spent(last: Challenge, gate: Gate) -> bool:
    return last.number >= gate.challenges
