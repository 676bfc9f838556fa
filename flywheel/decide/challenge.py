"""When a candidate may challenge the champion, and when it must stop.

A label is sealed until one challenge opens it, so it is fresh for exactly one; the number of
challenges that a test set bears is fixed in advance. Refuses to know labels, models and scores.

The lifetime error budget: how much of alpha one challenge may use.

Refuses to know what a challenge is; it only counts them within one generation of the test set.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from flywheel.records import Challenge, FreshOutcomes
from flywheel.settings.judging import Gate


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


@dataclass(frozen=True, kw_only=True, slots=True)
class Standing:
    """What tonight is known before a challenge."""

    last: Challenge | None
    """the newest one, None before the first"""
    is_closed: bool
    """whether it was promoted, rejected or given up"""
    candidate_digest: str | None
    """None when nothing new was trained"""
    champion_digest: str | None
    """None before the first release"""
    num_sealed: int
    """labels that no decision has seen"""
    night: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Opening:
    """Tonight's challenge, or why there is none."""

    challenge: Challenge | None
    """a new one, or the open one that goes on"""
    stale: Challenge | None
    """an open one to close: its champion no longer serves"""
    reason: str
    """why there is no challenge; empty when there is one"""


def next_challenge(standing: Standing, gate: Gate) -> Opening:
    """The challenge of this night: an open one goes on, else a new one opens if it may.

    A new one takes all sealed labels and the next share of alpha; after `gate.challenges` of them
    the test set is spent, and `gate.renewal_samples` sealed labels start the next generation with
    a whole budget. The bound of one generation holds for settings that stay as they are in it.
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
    """Why an undecided challenge ends here; empty when it goes on.

    Ending early never harms the error rate, as evidence that is not used promotes nobody. The
    gain is the mean with the scales as weights.
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
    """Why there are no two models to compare; empty when there are."""
    last, candidate = standing.last, standing.candidate_digest
    if candidate is None:
        return "nothing new was trained, so there is no challenger; train a candidate"
    if standing.champion_digest is None:
        return "nothing serves yet, so there is no champion to challenge; release a first model"
    if candidate == standing.champion_digest:
        return f"candidate {candidate[:12]} serves already; train another"
    pair = (candidate, standing.champion_digest)
    if last is not None and pair == (last.challenger_digest, last.champion_digest):
        # A second try on new labels would be valid, but wastes a challenge that a new model needs.
        return f"candidate {candidate[:12]} had its challenge in night {last.opened_night}; train another"
    return ""


def _too_few(standing: Standing, gate: Gate) -> str:
    """How many sealed labels are missing, and for what; empty when none are."""
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
