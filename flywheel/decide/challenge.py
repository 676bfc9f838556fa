"""When a candidate may challenge the champion, when it gives up, and how much alpha it may spend.

A label is sealed until a challenge opens it. It is evidence for every challenge that is open then, and
for later ones that take its labels over. The number of challenges of one test set (a generation) is
fixed in advance, and together they spend one error budget, alpha. A challenge is stored, so it can run
over several nights, and several can run side by side.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from flywheel.decide.plan import Forecast
from flywheel.records import Challenge
from flywheel.settings.judging import Gate

_MORE_LABELS = 2
"""A candidate opens a challenge beside an open one once it was trained on so many times the labels of
the newest challenger. Simulated with 1.2, 1.5, 2 and 3 on models that learn over 5 to 10 nights: no
other brings a gain to production sooner, and more challenges spend alpha."""

_HOPELESS = 0.05
"""A challenge is given up below this chance. Simulated at the default settings: 99 % of challenges without
a gain end so, half of them within 100 labels; of those with 5 points that would have been promoted 4 %."""


def share_of_alpha(alpha: float, number: int, challenges: int) -> float:
    """The error rate for challenge `number` of `challenges`, counted from 1.

    Formula: alpha / (number * H), H = 1 + 1/2 + ... + 1/challenges, which sums to alpha over the
    challenges: the probability that any of a chain promotes a model without a gain is at most alpha
    (union bound). Early challenges get the most, since many test sets never reach the last one.
    Source: alpha spending, Lan and DeMets (1983).
    Departure: Zipf's weights over challenges in place of a spending function over time. A test set
    can see several chains, one after the other has ended by its evidence; what that adds is
    measured, over whole lives, by tests/proofs/prove_challenges.py.

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
    """the newest one, open or closed; None before the first"""
    open: tuple[Challenge, ...]
    """those that were not promoted, rejected or given up"""
    candidate_digest: str | None
    """None when nothing new was trained"""
    champion_digest: str | None
    """None before the first release"""
    num_sealed: int
    """labels that no decision has used yet"""
    night: int
    candidate_labels: int = 0
    """annotators' labels that the candidate was trained on"""
    challenger_labels: int = 0
    """those that the newest challenger was trained on"""


@dataclass(frozen=True, kw_only=True, slots=True)
class Opening:
    """Tonight's challenges, or why there is none."""

    challenges: tuple[Challenge, ...]
    """open ones that go on, and a new one, which comes last"""
    stale: tuple[Challenge, ...]
    """open ones that must close, since their champion no longer serves"""
    reason: str
    """why there is no challenge; empty when there is one"""


def next_challenges(standing: Standing, gate: Gate) -> Opening:
    """The challenges of this night: open ones go on, and a new one may open.

    Where none is open, a new challenge takes all sealed labels and the next share of alpha. After
    `gate.challenges` of them the test set is used up, and `gate.renewal_samples` sealed labels start
    the next generation with a full budget. The bound for a generation holds if its settings do not
    change meanwhile.

    Beside an open challenge a candidate opens another one when it was trained on twice as many labels
    as the newest challenger, while the test set bears one more. It is judged on the labels of the open
    ones too, from the first, and on its own share of alpha. That is allowed: who opens it, when and
    with which share depends on numbers of labels alone, never on what test labels say, and no
    weights depend on a label of the test set, so that for it these labels are as good as sealed.
    What ended by its evidence passes on nothing: where none is open the next challenge has sealed
    labels only, since what ended the others also says something of their successor.
    """
    last, champion = standing.last, standing.champion_digest
    going = tuple(one for one in standing.open if one.champion_digest == champion)
    stale = tuple(one for one in standing.open if one.champion_digest != champion)
    if last is not None and going:
        more = (_beside(standing, last, going, gate),) if _joins(standing, last, gate) else ()
        return Opening(challenges=(*going, *more), stale=stale, reason="")
    candidate = standing.candidate_digest
    reason = _no_pair(standing) or _too_few(standing, gate)
    if candidate is None or champion is None or reason:
        return Opening(challenges=(), stale=stale, reason=reason)
    generation, number = _place(last, gate)
    challenge = Challenge(
        generation=generation,
        number=number,
        challenger_digest=candidate,
        champion_digest=champion,
        alpha=share_of_alpha(gate.alpha, number, gate.challenges),
        opened_night=standing.night,
    )
    return Opening(challenges=(challenge,), stale=stale, reason="")


def _joins(standing: Standing, last: Challenge, gate: Gate) -> bool:
    """Whether tonight's candidate opens a challenge beside those that go on."""
    others = {one.challenger_digest for one in (last, *standing.open)}
    is_new = standing.candidate_digest not in {None, last.champion_digest, *others}
    has_more = standing.candidate_labels >= _MORE_LABELS * max(standing.challenger_labels, 1)
    return is_new and has_more and not _is_spent(last, gate)


def _beside(
    standing: Standing, last: Challenge, going: Sequence[Challenge], gate: Gate
) -> Challenge:
    """A challenge on the labels of those that go on, from the first label of their chain."""
    assert standing.candidate_digest is not None  # noqa: S101  # `_joins` has checked it
    number = last.number + 1
    return replace(
        last,
        number=number,
        challenger_digest=standing.candidate_digest,
        alpha=share_of_alpha(gate.alpha, number, gate.challenges),
        opened_night=standing.night,
        took_over=number - min(one.number - one.took_over for one in going),
    )


def labels_to_open(last: Challenge | None, gate: Gate) -> int:
    """Sealed labels that the next challenge takes to open; more when the test set is spent."""
    is_spent = last is not None and _is_spent(last, gate)
    return max(gate.renewal_samples if is_spent else 0, gate.min_fresh_samples)


def taken_over(challenge: Challenge) -> str:
    """The challenges whose labels this one took over, in words; "" when none."""
    first, last = challenge.number - challenge.took_over, challenge.number - 1
    if first > last:
        return ""
    return f"challenge {last}" if first == last else f"challenges {first} to {last}"


def gives_up(used: int, ahead: Forecast, e_value: float, gate: Gate) -> str:
    """Why an undecided challenge ends after so many labels; "" when it goes on.

    It is hopeless when the forecast gives it a chance below 5 % with all labels that it may still use.
    Ending early never raises the error rate, since unused evidence promotes no model.
    """
    if used >= gate.challenge_samples:
        return (
            f"{used} fresh labels are used of {gate.challenge_samples} allowed, "
            f"and the evidence is {e_value:.3g}; train a better candidate"
        )
    if used < 2 * gate.min_fresh_samples or ahead.chance >= _HOPELESS:
        return ""
    return (
        f"after {used} fresh labels the chance that {ahead.ahead} more would show one is "
        f"{ahead.chance:.0%}, below {_HOPELESS:.0%}; train a better candidate"
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
    needed = labels_to_open(last, gate)
    missing = needed - have
    if missing <= 0:
        return ""
    if last is not None and _is_spent(last, gate):
        return (
            f"the test set is spent after {last.number} challenges; {missing} more fresh labels "
            f"renew it ({have} of {needed} are there)"
        )
    return (
        f"{have} fresh labels are too few to open a challenge, {needed} are needed; label what the "
        f"nights send to Label Studio, until {missing} more that were drawn at random are answered"
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
