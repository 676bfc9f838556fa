"""Annotators who share mistakes far more often than independent annotators would.

Copies of one another, several accounts of one person, those who all say the same to everything,
and those who all accept what they are shown: they count as one voice. The same counts of agreeing
pairs give a first, robust estimate of each annotator's reliability: rougher than weighing every
answer, but a few annotators cannot push each other up, since a pair that agrees far more often than
the others suggest is left out.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import scipy

from flywheel.annotators.opinions import Opinions
from flywheel.records import Array

_ROUNDS = 60
_EXPECTED = 0.75
_FIRMNESS = 3.0
"""Shared samples that the expectation is worth."""
_CUT = 3.0
"""Standard deviations of agreement beyond which a pair says nothing."""
_MEDIAN_OF_BELL = 0.6745


class Pairs(NamedTuple):
    """Pairs of annotators, each once, and the samples that both answered; (N,) each."""

    first: Array
    second: Array
    number: Array
    """samples that both answered"""
    agreeing: Array
    """of these, with answers of one group"""


def robust_reliabilities(pairs: Pairs, num_annotators: int, coincide: float) -> Array:
    """(P,) reliability of each person; of one without any pair the expected one, 0.75.

    Model: a and b agree with r_a r_b + (1 - r_a) (1 - r_b) k, k the chance that two wrong answers
    coincide. Fitted by least squares, person by person in turn, each pair weighted by its samples
    and by Tukey's biweight of its excess, in units of its own standard deviation or, where all
    fit worse than that, of the usual misfit. Only an excess counts: no pair agrees too little by
    agreement.
    Source: Beaton and Tukey 1974 for the weights.
    """
    found: Array = np.full(num_annotators, _EXPECTED)
    share = pairs.agreeing / np.maximum(pairs.number, 1)
    one = np.concatenate([pairs.first, pairs.second])
    other = np.concatenate([pairs.second, pairs.first])
    for _ in range(_ROUNDS):
        slope = found - (1 - found) * coincide
        offset = (1 - found) * coincide
        weight = np.tile(pairs.number * _weights(pairs, share, found, coincide), 2)
        x, y = slope[other], np.tile(share, 2) - offset[other]
        top = np.bincount(one, weight * x * y, num_annotators) + _FIRMNESS * _EXPECTED
        fitted = top / (np.bincount(one, weight * x * x, num_annotators) + _FIRMNESS)
        # Half a step: annotators who are only compared with each other would swing.
        found = np.clip((found + fitted) / 2, 0.02, 0.98)
    return found


def _weights(pairs: Pairs, share: Array, found: Array, coincide: float) -> Array:
    one, two = found[pairs.first], found[pairs.second]
    expected = one * two + (1 - one) * (1 - two) * coincide
    deviation = np.sqrt(expected * (1 - expected) / np.maximum(pairs.number, 1))
    excess = (share - expected) / deviation
    usual = float(np.median(np.abs(excess))) / _MEDIAN_OF_BELL if len(excess) else 1.0
    outside = np.clip(excess / (_CUT * max(usual, 1.0)), 0.0, 1.0)
    return np.asarray((1 - outside**2) ** 2)


_ERROR = 0.05
_ODDS = 2.0
"""Times the expected odds that honest annotators may reach, because they are unlike in more than
their reliability."""
_LOOKS = 10


@dataclass(frozen=True, kw_only=True, slots=True)
class SharedMistakes:
    """Two annotators who agree against others far too often."""

    annotators: tuple[str, str]
    share: float
    """of the samples on which two of the three, both and another, agree against the third: those
    on which it is the two that agree"""
    expected: float
    """the same of independent annotators of their reliabilities"""
    p_value: float


def shared_mistakes(packed: Opinions, alternatives: float) -> list[SharedMistakes]:
    """Pairs that share mistakes, voice by voice, the clearest pair of each first.

    Method: take two annotators and any third one on a sample, and keep the samples on which two of
    the three agree and one does not. Who agrees with whom is then a matter of chance: a sample
    that is hard, or misleads all annotators to the same wrong answer, does so to all three, and favours
    no pair. Independent annotators of reliabilities r agree, a and b against c, in proportion to

        r_a r_b (1 - r_c) + (1 - r_a) (1 - r_b) k (1 - (1 - r_c) k),

    k the chance that two wrong answers coincide, r by `robust_reliabilities`. The number
    of samples on which the pair is the one that agrees is held against this share with its odds
    doubled, in a binomial test (over several third annotators a sample counts with their mean). Holm
    over the pairs (1979), those left out that could never be found (Tarone 1990): no annotator at all
    is named wrongly in a look with a chance of 0.95.
    Each look takes out the voice with the clearest pair, since honest annotators who agree against it
    look as if they shared mistakes, too; the next look takes three annotators of three voices.
    Blind spots: samples that only two annotators answered say nothing, and those who share mistakes
    with most others are taken for the honest ones.

    Args:
        packed: opinions.
        alternatives: one over the chance that two wrong answers coincide.
    """
    found: list[SharedMistakes] = []
    for _ in range(_LOOKS):
        more = _look(packed, alternatives, voices_of(found))
        if not more:
            break
        found += more
    return found


def voices_of(pairs: Iterable[SharedMistakes]) -> dict[str, str]:
    """Person -> voice, of all who share mistakes: annotators linked by pairs are one voice.

    A voice has the name of its first member.
    """
    voice: dict[str, str] = {}
    for pair in pairs:
        one, other = (voice.setdefault(person, person) for person in pair.annotators)
        together = min(one, other)
        for person, of in voice.items():
            if of in (one, other):
                voice[person] = together
    return dict(sorted(voice.items()))


def _look(packed: Opinions, alternatives: float, voices: Mapping[str, str]) -> list[SharedMistakes]:
    """The pairs of the voice with the clearest one."""
    numbers = {name: number for number, name in enumerate(packed.annotators)}
    voice = np.array([numbers[voices.get(name, name)] for name in packed.annotators], dtype=np.intp)
    found = _Splits.of(packed, voice, 1 / max(alternatives, 1.0))
    if not len(found.number):
        return []
    chance = found.doubled / found.number
    p_values = scipy.stats.binom.sf(np.ceil(found.agreeing - 1e-9) - 1, found.number, chance)
    pairs = [
        SharedMistakes(
            annotators=(packed.annotators[found.first[at]], packed.annotators[found.second[at]]),
            share=float(found.agreeing[at] / found.number[at]),
            expected=float(found.expected[at] / found.number[at]),
            p_value=float(p_values[at]),
        )
        for at in _holm(p_values, chance**found.number)
    ]
    pairs.sort(key=lambda one: (one.p_value, one.annotators))
    linked = voices_of(pairs)
    return [pair for pair in pairs if linked[pair.annotators[0]] == linked[pairs[0].annotators[0]]]


class _Splits(NamedTuple):
    """Of N pairs of annotators: samples on which two of three agree, (N,) each."""

    first: Array
    second: Array
    number: Array
    agreeing: Array
    expected: Array
    doubled: Array
    """expected, with every share's odds doubled"""

    @classmethod
    def of(cls, packed: Opinions, voice: Array, coincide: float) -> _Splits:
        """Of all pairs with a sample at least; `voice` is (P,) each person's."""
        tables, size = list(_tables(packed)), len(packed.annotators)
        means = robust_reliabilities(_pairs(tables, voice), size, coincide)
        parts = [
            part
            for person, group in tables
            for part in _splits(person, group, voice, means, coincide)
        ]
        if not parts:
            return cls(*np.zeros((6, 0)))
        first, second, agreeing, expected = np.concatenate(parts, axis=1)
        key, place, number = np.unique(
            first.astype(np.intp) * size + second.astype(np.intp),
            return_inverse=True,
            return_counts=True,
        )
        doubled = _ODDS * expected / (1 + (_ODDS - 1) * expected)
        sums = (np.bincount(place, column) for column in (agreeing, expected, doubled))
        return cls(key // size, key % size, number, *sums)


def _splits(
    person: Array, group: Array, voice: Array, means: Array, coincide: float
) -> Iterator[Array]:
    """(4, S) first and second of a pair, whether they agree and how likely that was.

    Args:
        person: (S, n) of S samples with n answers.
        group: (S, n) of the answers.
        voice: (P,) of each person.
        means: (P,) reliability of each person.
        coincide: chance that two wrong answers are the same.
    """
    of, reliability = voice[person], means[person]
    for a, b in itertools.combinations(range(person.shape[1]), 2):
        agreeing, expected, splits = (np.zeros(len(person)) for _ in range(3))
        for c in set(range(person.shape[1])) - {a, b}:
            threes = ((a, b, c), (a, c, b), (b, c, a))
            agree = np.stack([group[:, one] == group[:, two] for one, two, _ in threes])
            apart = np.stack([of[:, one] != of[:, two] for one, two, _ in threes]).all(axis=0)
            weight = np.stack([_weight(reliability[:, list(at)], coincide) for at in threes])
            is_split = (agree.sum(axis=0) == 1) & apart
            splits += is_split
            agreeing += is_split & agree[0]
            expected += is_split * weight[0] / weight.sum(axis=0)
        kept = splits > 0
        low, high = np.sort(person[kept][:, [a, b]], axis=1).T
        yield np.stack([low, high, agreeing[kept] / splits[kept], expected[kept] / splits[kept]])


def _weight(three: Array, coincide: float) -> Array:
    """(S,) that the first two of (S, 3) reliabilities agree against the third."""
    one, two, third = three.T
    wrong = (1 - one) * (1 - two) * coincide * (1 - (1 - third) * coincide)
    return np.asarray(one * two * (1 - third) + wrong)


def _pairs(tables: Sequence[tuple[Array, Array]], voice: Array) -> Pairs:
    """Of all annotators of different voices who answered a sample together."""
    size, keys, agrees = len(voice), [], []
    for person, group in tables:
        for a, b in itertools.combinations(range(person.shape[1]), 2):
            apart = voice[person[:, a]] != voice[person[:, b]]
            low, high = np.sort(person[apart][:, [a, b]], axis=1).T
            keys.append(low * size + high)
            agrees.append(group[apart, a] == group[apart, b])
    key, place, number = np.unique(
        np.concatenate([np.zeros(0, dtype=np.intp), *keys]), return_inverse=True, return_counts=True
    )
    agreeing = np.bincount(place, np.concatenate([np.zeros(0), *agrees]), len(key))
    return Pairs(key // size, key % size, number, agreeing)


def _tables(packed: Opinions) -> Iterator[tuple[Array, Array]]:
    """(S, n) annotators and (S, n) groups of the S samples with n answers, for each n of 3 or more."""
    counts = np.bincount(packed.sample, minlength=len(packed.samples))
    starts = np.concatenate([[0], np.cumsum(counts)[:-1]]).astype(np.intp)
    for width in sorted(set(counts[counts >= 3].tolist())):
        places = starts[counts == width, None] + np.arange(width)
        yield packed.person[places], packed.group[places]


def _holm(p_values: Array, least: Array) -> Sequence[int]:
    """The places of the hypotheses that are rejected; `least` is the least p-value each can have."""
    number = 1
    while np.count_nonzero(least <= _ERROR / number) > number:
        number += 1
    able = np.flatnonzero(least <= _ERROR / number)
    rejected = []
    for rank, place in enumerate(able[np.argsort(p_values[able], kind="stable")].tolist()):
        if p_values[place] > _ERROR / (len(able) - rank):
            break
        rejected.append(place)
    return rejected
