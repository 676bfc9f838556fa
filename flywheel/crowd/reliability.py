"""How often each person is right, and which answers are, from the answers alone.

Dawid and Skene's idea (1979) with one number a person, over groups of answers that agree, so it
serves classes, keypoints, poses and boxes alike. Refuses to know what an answer is, and the model.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import special

from flywheel.crowd import grid, spread
from flywheel.crowd.opinions import Opinion, Opinions, pack
from flywheel.records import Array

_TAIL = 0.025
_ROUNDS = 60
_STILL = 1e-4
"""Change of a reliability below which the rounds end."""
_SPREAD_EVERY = 4
"""Rounds between looks at how wrong answers spread, which changes slowly."""
_START = 0.75
USUAL_TIER = "random"


@dataclass(frozen=True, kw_only=True, slots=True)
class Reliability:
    """How often a person's answers are right."""

    person: str
    tier: str
    mean: float
    """chance that an answer is right, in (0, 1); the mean of what is believed of it"""
    low: float
    """of the interval that holds it with 0.95"""
    high: float
    num_answers: int
    num_gold: int
    """of these, on gold samples"""


@dataclass(frozen=True, kw_only=True, slots=True)
class Crowd:
    """What the answers of many people say about the people and about the samples."""

    people: Mapping[str, Reliability]
    samples: Mapping[str, Mapping[int, float]]
    """sample -> number of the group -> chance that it is right; together at most 1, the rest is
    the chance that nobody is right"""
    newcomers: Mapping[str, float]
    """tier -> reliability of somebody of the tier of whom nothing is known"""
    alternatives: float
    """ways to be wrong, as far as wrong answers coincide: one over the chance that two do"""


def weigh(
    opinions: Sequence[Opinion],
    tiers: Mapping[str, str] | None = None,
    voices: Mapping[str, str] | None = None,
) -> Crowd:
    """The reliability of every person and the chance of every group, from each other.

    Each round takes the chances of the groups from the people (`spread.log_odds`), the evidence
    on each person from the groups (what all others say of each answer), and the people from it
    and from each other (`grid.fit_tier`), until nothing moves. Gold answers are certain evidence.
    No random numbers: equal opinions give equal numbers, in whatever order they come.

    Args:
        opinions: one a person and sample, at most.
        tiers: person -> tier; who is not named is of the tier "random". Those who are named are
            among the people of the result though they may have answered nothing.
        voices: person -> voice; people of one voice count as one person together, on each sample
            (see `flywheel.crowd.collusion`).

    Raises:
        ValueError: a person has two opinions on one sample.
    """
    tiers = tiers or {}
    packed = pack(opinions, people=tuple(tiers))
    state = _State(packed, tiers, voices or {})
    state.settle()
    return state.crowd()


class _State:
    """The numbers that the rounds improve; see `weigh`."""

    def __init__(
        self, packed: Opinions, tiers: Mapping[str, str], voices: Mapping[str, str]
    ) -> None:
        self.packed = packed
        self.tiers = [tiers.get(person, USUAL_TIER) for person in packed.people]
        self.is_gold = ~np.isnan(packed.is_right)
        self.weight, self.same_voice = _shares(packed, voices)
        num_groups = len(packed.sample_of_group)
        votes = np.bincount(packed.group, self.weight, num_groups)
        self.groups = spread.Groups(sample=packed.sample_of_group, votes=votes)
        self.means: Array = np.full(len(packed.people), _START)
        self.theta = 4.0
        self.odds: Array = np.zeros(num_groups)
        self.beliefs: dict[str, grid.Tier] = {}

    def settle(self) -> None:
        """Rounds until no reliability moves."""
        for number in range(_ROUNDS):
            before = self.means
            self._look_at_groups(fits_theta=number % _SPREAD_EVERY == 1)
            self._look_at_people()
            if number > _SPREAD_EVERY and np.abs(self.means - before).max(initial=0.0) < _STILL:
                break
        self._look_at_groups(fits_theta=False)

    def _look_at_groups(self, *, fits_theta: bool) -> None:
        logit = special.logit(self.means)[self.packed.person]
        support = np.bincount(self.packed.group, self.weight * logit, len(self.odds))
        if fits_theta:
            self.theta = spread.fit_theta(self.groups, support)
        self.odds = spread.log_odds(self.groups, support, self.theta)

    def _look_at_people(self) -> None:
        evidence = self._evidence()
        number = len(self.means)
        likelihoods = grid.log_likelihoods(self.packed.person, evidence, number)
        self.means = self.means.copy()
        for tier in sorted({USUAL_TIER, *self.tiers}):
            members = np.flatnonzero([one == tier for one in self.tiers])
            self.beliefs[tier] = grid.fit_tier(likelihoods[members])
            self.means[members] = self.beliefs[tier].means

    def _evidence(self) -> Array:
        """(A,) log odds that each answer is right, by what all others say; infinite on gold.

        Formula: the odds of its group against every other group and none, without what the
        answer's own voice adds to them.
        """
        packed, odds = self.packed, np.minimum(self.odds, 60.0)
        exp = np.exp(odds)
        total = 1.0 + self.groups.total(exp)[packed.sample]
        rest = np.maximum(total - exp[packed.group], 1.0)
        logit = special.logit(self.means)[packed.person]
        own = np.bincount(self.same_voice, self.weight * logit)[self.same_voice]
        evidence = odds[packed.group] - own - np.log(rest)
        known = np.where(packed.is_right == 1, np.inf, -np.inf)
        return np.where(self.is_gold, known, evidence)

    def crowd(self) -> Crowd:
        """The result."""
        chances = self._known(spread.chances(self.groups, self.odds))
        samples: dict[str, dict[int, float]] = {name: {} for name in self.packed.samples}
        places = zip(
            self.packed.sample_of_group.tolist(),
            self.packed.number_of_group.tolist(),
            chances.tolist(),
            strict=True,
        )
        for sample, number, chance in places:
            samples[self.packed.samples[sample]][number] = chance
        return Crowd(
            people={person.person: person for person in self._people()},
            samples=samples,
            newcomers={tier: belief.newcomer for tier, belief in self.beliefs.items()},
            alternatives=1.0 + self.theta,
        )

    def _known(self, chances: Array) -> Array:
        """(G,) chances, on gold samples the share of a group's answers that are right."""
        packed, gold = self.packed, np.flatnonzero(self.is_gold)
        right = np.bincount(packed.group[gold], packed.is_right[gold], len(chances))
        number = np.bincount(packed.group[gold], minlength=len(chances))
        is_known = np.isin(packed.sample_of_group, packed.sample[gold])
        return np.where(is_known, right / np.maximum(number, 1), chances)

    def _people(self) -> list[Reliability]:
        answers = np.bincount(self.packed.person, minlength=len(self.means))
        gold = np.bincount(self.packed.person, self.is_gold, len(self.means))
        found, seen = [], dict.fromkeys(self.beliefs, 0)
        for index, (person, tier) in enumerate(zip(self.packed.people, self.tiers, strict=True)):
            low, high = grid.interval(self.beliefs[tier].log_density[seen[tier]], _TAIL)
            seen[tier] += 1
            found.append(
                Reliability(
                    person=person,
                    tier=tier,
                    mean=float(self.means[index]),
                    low=low,
                    high=high,
                    num_answers=int(answers[index]),
                    num_gold=int(gold[index]),
                )
            )
        return found


def _shares(packed: Opinions, voices: Mapping[str, str]) -> tuple[Array, Array]:
    """(A,) weight of each opinion, and (A,) numbers that opinions of one voice in one group share.

    Each of the k opinions of a voice on a sample counts 1 / k.
    """
    names = [voices.get(person, f"\0{person}") for person in packed.people]
    number = np.unique(names, return_inverse=True)[1].astype(np.intp) if names else np.zeros(0, int)
    voice = number[packed.person]
    on_sample = packed.sample * (len(names) + 1) + voice
    _, place, count = np.unique(on_sample, return_inverse=True, return_counts=True)
    in_group = np.unique(packed.group * (len(names) + 1) + voice, return_inverse=True)[1]
    return 1.0 / count[place], in_group
