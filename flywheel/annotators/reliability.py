"""How often each annotator is right, and which answers are, from the answers alone.

Dawid and Skene's idea (1979) with one number an annotator, over groups of answers that agree, so it
serves classes, keypoints, poses and boxes alike. Each posterior takes the other annotators as they
are most likely to be; intervals are then widened by what is not known of those, which matters
most where samples have two answers and few gold questions are asked.

An annotator of whom little is known is taken for an average one of the tier: a hierarchy of Betas, as
weighted sums on grids. Nothing is drawn at random, and no bound is a normal approximation. Evidence
comes as log odds, one an answer.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import NamedTuple

import numpy as np
import scipy

from flywheel.annotators.collusion import SharedMistakes, shared_mistakes, voices_of
from flywheel.annotators.judges import GroupJudge, NameJudge, Voices
from flywheel.annotators.opinions import Opinion, Opinions, pack
from flywheel.records import Array

_POINTS = np.sin(np.pi / 2 * (np.arange(128) + 0.5) / 128) ** 2
"""Chances of being right, (R,), closest near 0 and 1."""

_EDGES = np.sin(np.pi / 2 * np.arange(129) / 128) ** 2

_MEANS = np.linspace(0.025, 0.975, 39)
"""of a tier"""
_SIZES = np.geomspace(1.0, 100.0, 9)
"""a + b of a tier's Beta: small where annotators differ, large where they are alike"""

_EVIDENCE = np.linspace(-15.0, 15.0, 121)
"""Log odds are spread over the two nearest of these."""

_FIRMNESS = 5.5
"""a + b of what is expected of a tier's mean before anyone has answered"""

_CONTRADICTION = 0.01

_TINY = 1e-300


class Tier(NamedTuple):
    """What is known of the annotators of one tier; all chances of being right."""

    log_density: Array
    """(P, R) of each person's posterior"""
    means: Array
    """(P,)"""
    newcomer: float
    """mean of an annotator of the tier of whom nothing is known"""


def log_likelihoods(person: Array, evidence: Array, num_annotators: int) -> Array:
    """(P, R) log of the product over a person's answers of r e^l + 1 - r, l their log odds.

    Args:
        person: (A,) int, whose answer it is.
        evidence: (A,) log odds that the answer is right, by all that others say of it;
            infinite where it is known.
        num_annotators: P.
    """
    step = _EVIDENCE[1] - _EVIDENCE[0]
    place = np.clip((evidence - _EVIDENCE[0]) / step, 0, len(_EVIDENCE) - 1)
    low = np.minimum(place.astype(np.intp), len(_EVIDENCE) - 2)
    size = num_annotators * len(_EVIDENCE)
    cell = person * len(_EVIDENCE) + low
    counts = np.bincount(cell, 1 - (place - low), size) + np.bincount(cell + 1, place - low, size)
    odds = _EVIDENCE[:, None]
    table = np.logaddexp(np.log(_POINTS) + odds, np.log1p(-_POINTS)) - np.logaddexp(odds, 0)
    return np.asarray(counts.reshape(num_annotators, len(_EVIDENCE)) @ table)


def fit_tier(likelihoods: Array, expected: float) -> Tier:
    """Posterior of every person of a tier, with its mean and size integrated out.

    Model: r of a person ~ Beta(mean * size, (1 - mean) * size); the mean ~ Beta(5.5 e, 5.5 (1 - e))
    with e the expected mean; the size uniform in its logarithm between 1 and 100.
    """
    priors = _priors()
    hyper = scipy.stats.beta(_FIRMNESS * expected, _FIRMNESS * (1.0 - expected)).pdf(_MEANS)
    hyper = np.repeat(hyper, len(_SIZES))
    top = likelihoods.max(axis=1, keepdims=True)
    marginal = np.log(np.exp(likelihoods - top) @ priors)  # (P, H)
    weight = np.log(hyper) + marginal.sum(axis=0)
    weight -= scipy.special.logsumexp(weight)
    # Under each mean and size the posterior is likelihood times prior over the marginal.
    mixed = np.exp(weight - marginal) @ priors.T  # (P, R)
    log_density = likelihoods - top + np.log(np.maximum(mixed, _TINY))
    newcomer = float(np.exp(weight) @ np.repeat(_MEANS, len(_SIZES)))
    means = _normalised(log_density) @ _POINTS
    return Tier(log_density=log_density, means=means, newcomer=newcomer)


def interval(log_density: Array, tail: float) -> tuple[float, float]:
    """Equal-tailed bounds of one person's posterior, (R,)."""
    below = np.concatenate([[0.0], np.cumsum(_normalised(log_density[None])[0])])
    return float(np.interp(tail, below, _EDGES)), float(np.interp(1 - tail, below, _EDGES))


def _normalised(log_density: Array) -> Array:
    density = np.exp(log_density - log_density.max(axis=1, keepdims=True))
    return np.asarray(density / density.sum(axis=1, keepdims=True))


@cache
def _priors() -> Array:
    """(R, H) mass of each point under the Beta of each mean and size."""
    means, sizes = (axis.ravel() for axis in np.meshgrid(_MEANS, _SIZES, indexing="ij"))
    mass = np.diff(
        scipy.stats.beta(means * sizes, (1 - means) * sizes).cdf(_EDGES[:, None]), axis=0
    )
    return np.asarray(np.maximum(mass, _TINY))


_MOST_ANNOTATORS = 1500
"""of more, each one matters little, and a matrix of all pairs is large"""
_MOST = 3.0
_PRIOR = 3.0
"""Answers that what is known of a tier is worth, at least."""


def stretches(packed: Opinions, weight: Array, chances: Array, means: Array) -> Array:
    """(P,) standard deviation of a person's logit r over that when all others are known; 1 to 3.

    Formula: sqrt(I_pp (I^-1)_pp), I the observed information on the logits of all annotators's
    reliabilities. By Louis (1982) it is the complete one, sum of w r (1 - r) over a person's
    answers, less the covariance of the scores under the posterior of what is right:
    sum over samples of [sum_g P_g a_g a_g' - m m'], m = sum_g P_g a_g, a_g the (P,) weights of
    the annotators in group g and P_g its chance.

    Args:
        packed: opinions.
        weight: (A,) voices that each counts for.
        chances: (G,) of each group to be right.
        means: (P,) reliability of each person.
    """
    number = len(means)
    if not number or number > _MOST_ANNOTATORS:
        return np.ones(number)
    shape = (len(chances), number)
    members = scipy.sparse.csr_matrix((weight, (packed.group, packed.person)), shape=shape)
    expected = scipy.sparse.csr_matrix(
        (weight * chances[packed.group], (packed.sample, packed.person)),
        shape=(len(packed.samples), number),
    )
    scores = members.T @ members.multiply(chances[:, None]) - expected.T @ expected
    answers = np.bincount(packed.person, weight, number) + _PRIOR
    information = np.diag(answers * means * (1 - means)) - scores.toarray()
    spread, axes = np.linalg.eigh(information)
    # Away from the maximum it may point downwards in a direction that nothing is known of.
    spread = np.maximum(spread, 1e-3 * max(float(spread.max()), 1e-12))
    alone = np.einsum("pk,k,pk->p", axes, spread, axes)
    together = np.einsum("pk,k,pk->p", axes, 1 / spread, axes)
    return np.asarray(np.clip(np.sqrt(alone * together), 1.0, _MOST))


def stretched(bounds: tuple[float, float], mean: float, factor: float) -> tuple[float, float]:
    """Bounds as many times as far from the mean, on the scale of the logit."""
    middle = scipy.special.logit(mean)
    low, high = (
        float(scipy.special.expit(middle + factor * (scipy.special.logit(bound) - middle)))
        for bound in bounds
    )
    return low, high


_TAIL = 0.025
_ROUNDS = 60
_STILL = 1e-4
"""Change of a reliability below which the rounds end."""
_FEWEST_ROUNDS = 5
_EXPECTED_USUAL, _EXPECTED_EXPERT = 8 / 11, 0.95
_START = 0.75
_USUAL_TIER = "random"
_LEAST_SKILL = 1 / 3


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
    by_chance: float
    """how often an annotator would be right who answers without looking, each name as often as this
    person; where answers are no names, who picks any of the alternatives"""

    def is_guessing(self) -> bool:
        """Whether significantly less than a third of what can be known is known: a spammer.

        Formula: (high - by_chance) / (1 - by_chance) < 1/3, as in Cohen's kappa (1960).
        """
        return self.high - self.by_chance < _LEAST_SKILL * (1 - self.by_chance)


@dataclass(frozen=True, kw_only=True, slots=True)
class Crowd:
    """What the answers of many annotators say about the annotators and about the samples."""

    annotators: Mapping[str, Reliability]
    samples: Mapping[str, Mapping[int, float]]
    """sample -> number of the group -> chance that it is right; together at most 1, the rest is
    the chance that no annotator is right"""
    newcomers: Mapping[str, float]
    """tier -> reliability of an annotator of the tier of whom nothing is known"""
    alternatives: float
    """ways to be wrong, as far as wrong answers coincide: one over the chance that two do"""
    voices: Mapping[str, str]
    """person -> voice, of those who counted as one because they share mistakes"""
    shared: tuple[SharedMistakes, ...]
    """why"""


def weigh(
    opinions: Sequence[Opinion],
    tiers: Mapping[str, str] | None = None,
    voices: Mapping[str, str] | None = None,
) -> Crowd:
    """The reliability of every person and the chance of every group, from each other.

    Each round takes the chances of the groups from the annotators (`judges`), the evidence on each
    person from the groups (what all others say of each answer), and the annotators from it and from
    each other (`fit_tier`), until nothing moves. Gold answers are certain evidence, and of an annotator
    whom they contradict (`_doubted`) the only one. Annotators who share mistakes
    (`collusion.shared_mistakes`) then become one voice, one person on each sample, and all is done again.
    Where all answers are names, and there are enough of them, more rounds follow that know which names
    are rare and which are confused. No random numbers: in any order, equal opinions give equal numbers.

    Bias: answers are right as far as others can see. On samples that mislead most annotators to the
    same wrong answer the majority is believed, and all annotators look better than they are; only gold
    samples as hard as those would show it.

    Args:
        opinions: one a person and sample, at most.
        tiers: person -> tier; who is not named is of the tier "random". Those who are named are
            expected to be right 19 times in 20 until their answers say otherwise, the others 8 in
            11; they are in the result even if they answered nothing.
        voices: person -> voice; None finds them, {} takes all for independent.

    Raises:
        ValueError: a person has two opinions on one sample.
    """
    tiers = tiers or {}
    packed = pack(opinions, annotators=tuple(tiers))
    of_tier = _members(packed, tiers)
    start: Array = np.full(len(packed.annotators), _START)
    judge = GroupJudge(packed, Voices.of(packed, voices or {}))
    means, beliefs = _settle(judge, of_tier, start)
    shared = shared_mistakes(packed, judge.alternatives) if voices is None else []
    if shared:
        judge = GroupJudge(packed, Voices.of(packed, voices_of(shared)))
        means, beliefs = _settle(judge, of_tier, start)
    doubted = _doubted(packed, means)
    if doubted.any():
        means, beliefs = _settle(judge, of_tier, start, doubted)
    counted = Voices.of(packed, voices_of(shared) if voices is None else voices)
    chances = judge.chances
    by_chance: Array = np.full(len(packed.annotators), 1 / (1 + judge.alternatives))
    if NameJudge.serves(packed, counted):
        by_name = NameJudge(packed, counted, chances)
        means, beliefs = _settle(by_name, of_tier, means, doubted)
        chances, by_chance = by_name.chances, by_name.by_chance()
    wider = stretches(packed, counted.weight, chances, means)
    return Crowd(
        annotators=_annotators(packed, of_tier, beliefs, wider, by_chance),
        samples=_samples(packed, chances),
        newcomers={tier: belief.newcomer for tier, belief in beliefs.items()},
        alternatives=judge.alternatives,
        voices=dict(voices_of(shared) if voices is None else voices),
        shared=tuple(shared),
    )


def _members(packed: Opinions, tiers: Mapping[str, str]) -> dict[str, Array]:
    """Tier -> the places of its annotators; "random" is always among them."""
    names = [tiers.get(person, _USUAL_TIER) for person in packed.annotators]
    return {
        tier: np.flatnonzero([name == tier for name in names])
        for tier in sorted({_USUAL_TIER, *names})
    }


def _expected(tier: str) -> float:
    """Named experts are taken for better than others until their answers say otherwise."""
    return _EXPECTED_USUAL if tier == _USUAL_TIER else _EXPECTED_EXPERT


def _doubted(packed: Opinions, means: Array) -> Array:
    """(A,) whether an answer says nothing of its annotator, since the gold ones say otherwise.

    Two who agree on wrong answers, and are more than the honest ones, look right by agreement, however
    many gold questions show the contrary: each is one answer of hundreds. Whose gold answers have a
    chance of less than 0.01 over the annotators, either way, under what agreement says is known by gold
    alone.
    """
    number, is_gold = len(means), ~np.isnan(packed.is_right)
    asked = np.bincount(packed.person, is_gold, number)
    right = np.bincount(packed.person, np.nan_to_num(packed.is_right), number)
    tails = (
        scipy.stats.binom.cdf(right, asked, means),
        scipy.stats.binom.sf(right - 1, asked, means),
    )
    is_doubted = np.minimum(*tails) < _CONTRADICTION / (2 * max(number, 1))
    return np.asarray(is_doubted[packed.person] & ~is_gold)


def _settle(
    judge: GroupJudge | NameJudge,
    of_tier: Mapping[str, Array],
    means: Array,
    doubted: Array | None = None,
) -> tuple[Array, dict[str, Tier]]:
    """Rounds until no reliability moves; the judge is left with the chances of the last one."""
    beliefs: dict[str, Tier] = {}
    for number in range(_ROUNDS):
        evidence, before = judge.look(means), means
        if doubted is not None:
            evidence = np.where(doubted, 0.0, evidence)
        likelihoods = log_likelihoods(judge.packed.person, evidence, len(means))
        means = means.copy()
        for tier, members in of_tier.items():
            beliefs[tier] = fit_tier(likelihoods[members], _expected(tier))
            means[members] = beliefs[tier].means
        moved = np.abs(means - before).max(initial=0.0)
        if number + 1 >= _FEWEST_ROUNDS and moved < _STILL:
            break
    judge.look(means)
    return means, beliefs


def _samples(packed: Opinions, chances: Array) -> dict[str, dict[int, float]]:
    found: dict[str, dict[int, float]] = {name: {} for name in packed.samples}
    places = packed.sample_of_group.tolist(), packed.number_of_group.tolist()
    for sample, number, chance in zip(*places, chances.tolist(), strict=True):
        found[packed.samples[sample]][number] = chance
    return found


def _annotators(
    packed: Opinions,
    of_tier: Mapping[str, Array],
    beliefs: Mapping[str, Tier],
    wider: Array,
    by_chance: Array,
) -> dict[str, Reliability]:
    """By name; `wider`, see `stretches`, and `by_chance` are (P,)."""
    answers = np.bincount(packed.person, minlength=len(packed.annotators))
    gold = np.bincount(packed.person, ~np.isnan(packed.is_right), len(packed.annotators))
    found = {}
    for tier, members in of_tier.items():
        belief = beliefs[tier]
        for place, index in enumerate(members.tolist()):
            mean = float(belief.means[place])
            bounds = interval(belief.log_density[place], _TAIL)
            low, high = stretched(bounds, mean, float(wider[index]))
            found[packed.annotators[index]] = Reliability(
                person=packed.annotators[index],
                tier=tier,
                mean=mean,
                low=low,
                high=high,
                num_answers=int(answers[index]),
                num_gold=int(gold[index]),
                by_chance=float(by_chance[index]),
            )
    return dict(sorted(found.items()))
