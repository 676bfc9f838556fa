"""Two judges of answers: by groups that agree, which serves every task, and by names.

Given how reliable the annotators are, a judge says how likely each group of answers is to be right,
and what all others say of each single answer. Wrong answers coincide as often as the data say:
rarely where there are many ways to be wrong, often where there are few.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import scipy

from flywheel.annotators import confusion
from flywheel.annotators.opinions import Opinions
from flywheel.records import Array

_THETAS = np.geomspace(0.25, 256.0, 31)
"""Concentrations looked at."""

_USUAL_THETA = 4.0
_LOG_SPREAD = 1.2
"""Prior of log theta: its centre is that of five alternatives, within a factor of ten."""

_LARGEST_LOG_ODDS = 60.0
"""Log odds beyond which nothing changes."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Groups:
    """The groups of S samples, G in all, and how many voices stand behind each."""

    sample: Array
    """(G,) int, not falling; every sample of 0..S-1 has a group"""
    votes: Array
    """(G,) voices of the group, more than 0"""

    @property
    def starts(self) -> Array:
        """(S,) where each sample's groups begin."""
        return np.flatnonzero(np.diff(self.sample, prepend=-1))

    def total(self, values: Array) -> Array:
        """(S,) sums over the groups of each sample, of (G,) values."""
        return np.add.reduceat(values, self.starts) if len(values) else np.zeros(0)


def log_odds(groups: Groups, support: Array, theta: float) -> Array:
    """(G,) log odds of a group being right against no group of its sample being right.

    Model: an answer is right with its person's chance r; wrong ones seat themselves as in a
    Chinese restaurant of concentration theta (Blackwell and MacQueen 1973): alone with
    theta / (i + theta) after i wrong ones, with each group in proportion to its size else. Two
    wrong answers coincide with 1 / (1 + theta), as if there were 1 + theta alternatives; a third
    one joins them more readily, since what misled two may mislead a third. Then with c votes in
    the group and n on the sample

        log odds = sum of logit r in the group - log theta - log Gamma(c)
                   + log Gamma(theta + n) - log Gamma(theta + n - c).

    Args:
        groups: of all samples.
        support: (G,) sum of logit r over the group's voices.
        theta: concentration of wrong answers.
    """
    total = groups.total(groups.votes)[groups.sample]
    return np.asarray(support - np.log(theta) + _coincidence(groups.votes, total, theta))


def _coincidence(votes: Array, total: Array, theta: float) -> Array:
    seats = np.maximum(votes, 1.0)  # a share of a voice is no less likely to be alone than a voice
    rising = scipy.special.gammaln(theta + total) - scipy.special.gammaln(theta + total - votes)
    return np.asarray(rising - scipy.special.gammaln(seats))


def chances(groups: Groups, odds: Array) -> Array:
    """(G,) chance that a group is right, from `log_odds`; those of a sample sum to below 1."""
    if not len(odds):
        return np.zeros(0)
    top = np.maximum(np.maximum.reduceat(odds, groups.starts), 0.0)
    scaled = np.exp(odds - top[groups.sample])
    return np.asarray(scaled / (groups.total(scaled) + np.exp(-top))[groups.sample])


def fit_theta(groups: Groups, support: Array) -> float:
    """The concentration under which the groups are most likely.

    Formula: the sum over samples of log[theta^m Gamma(theta) prod Gamma(c) / Gamma(theta + n)]
    + log(1 + sum over groups of the odds), and a log-normal prior, on a grid.
    """
    found = [
        _log_likelihood(groups, support, float(theta))
        - 0.5 * (np.log(theta / _USUAL_THETA) / _LOG_SPREAD) ** 2
        for theta in _THETAS
    ]
    return float(_THETAS[int(np.argmax(found))])


def _log_likelihood(groups: Groups, support: Array, theta: float) -> float:
    if not len(support):
        return 0.0
    odds = np.minimum(log_odds(groups, support, theta), _LARGEST_LOG_ODDS)
    total, number = groups.total(groups.votes), groups.total(np.ones(len(support)))
    log_none = (
        number * np.log(theta) + scipy.special.gammaln(theta) - scipy.special.gammaln(theta + total)
    )
    return float(np.sum(log_none + np.log1p(groups.total(np.exp(odds)))))


_SPREAD_EVERY = 4
"""Rounds between looks at how wrong answers spread, which changes slowly."""

_LARGEST = 60.0
"""Log odds beyond which nothing changes."""

_FEWEST_CHECKED = 40
"""Checked answers for each name, for confusions to be learned."""

_MOST_CELLS = 500_000
"""of the annotators's confusions, and names times answers: more would take seconds"""

_PRIOR_SHARE = 1.0
"""Samples that each name is thought to have before any was seen."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Voices:
    """Who counts as one."""

    weight: Array = field(repr=False)
    """(A,) of each opinion: 1 / k for each of the k opinions of a voice on a sample"""
    in_group: Array = field(repr=False)
    """(A,) int, equal for opinions of one voice in one group"""
    on_sample: Array = field(repr=False)
    """(A,) voices on the opinion's sample"""

    @classmethod
    def of(cls, packed: Opinions, voices: Mapping[str, str]) -> Voices:
        """Of opinions whose annotators share voices; who has none is one alone."""
        names = [(person in voices, voices.get(person, person)) for person in packed.annotators]
        numbers = {name: number for number, name in enumerate(dict.fromkeys(names))}
        voice = np.array([numbers[name] for name in names], dtype=np.intp)[packed.person]
        size = len(numbers) + 1
        on_sample = packed.sample * size + voice
        _, place, count = np.unique(on_sample, return_inverse=True, return_counts=True)
        weight = 1.0 / count[place]
        in_group = np.unique(packed.group * size + voice, return_inverse=True)[1]
        total = np.bincount(packed.sample, weight, len(packed.samples))
        return cls(weight=weight, in_group=in_group, on_sample=total[packed.sample])


class GroupJudge:
    """By groups that agree and how many annotators are behind them; see `spread.log_odds`."""

    def __init__(self, packed: Opinions, voices: Voices) -> None:
        self.packed = packed
        self.chances: Array = np.zeros(len(packed.sample_of_group))
        """(G,) of each group to be right, at the last look"""
        self._voices = voices
        votes = np.bincount(packed.group, voices.weight, len(self.chances))
        self._groups = Groups(sample=packed.sample_of_group, votes=votes)
        self._theta, self._looks = 4.0, 0

    @property
    def alternatives(self) -> float:
        """One over the chance that two wrong answers coincide."""
        return 1.0 + self._theta

    def look(self, means: Array) -> Array:
        """(A,) log odds that each answer is right, by what all others say; infinite on gold.

        Formula: the odds of its group against every other group and none, without what the
        answer's own voice adds to them.

        Args:
            means: (P,) reliability of each person.
        """
        packed, weight = self.packed, self._voices.weight
        logit = scipy.special.logit(means)[packed.person]
        support = np.bincount(packed.group, weight * logit, len(self.chances))
        if self._looks % _SPREAD_EVERY == 1:
            self._theta = fit_theta(self._groups, support)
        self._looks += 1
        odds = log_odds(self._groups, support, self._theta)
        self.chances = _with_gold(packed, chances(self._groups, odds))
        odds = np.minimum(odds, _LARGEST)
        total = 1.0 + self._groups.total(np.exp(odds))[packed.sample]
        rest = np.maximum(total - np.exp(odds[packed.group]), 1.0)
        own = np.bincount(self._voices.in_group, weight * logit)[self._voices.in_group]
        return _certain_on_gold(packed, odds[packed.group] - own - np.log(rest))


class NameJudge:
    """By the names that each person confuses; see `confusion.confusions`."""

    def __init__(self, packed: Opinions, voices: Voices, chances: Array) -> None:
        self.packed = packed
        self.chances = chances
        """(G,) of each group to be right, at the last look"""
        self._is_named = packed.name >= 0
        self._name_of_group = _name_of_group(packed)
        self._in_group = voices.in_group[self._is_named]
        num_names = int(packed.name.max()) + 1
        self._named = confusion.Named(
            sample=packed.sample[self._is_named],
            person=packed.person[self._is_named],
            name=packed.name[self._is_named],
            weight=voices.weight[self._is_named],
            is_possible=_possible(packed, num_names),
            is_checked=_is_checked(packed, voices)[self._is_named],
        )
        self._log_truth = self._first(num_names)

    @staticmethod
    def serves(packed: Opinions, voices: Voices) -> bool:
        """Whether all answers are names, and there are enough to learn who confuses which.

        Only on gold samples may answers have no name; they count for the reliability alone.
        """
        num_names = int(packed.name.max(initial=-1)) + 1
        is_alike = packed.name == _name_of_group(packed)[packed.group]
        is_named = (packed.name >= 0) & is_alike
        cells = max(len(packed.annotators) * num_names, len(packed.name)) * num_names
        checked = np.count_nonzero(_is_checked(packed, voices) & (packed.name >= 0))
        return (
            num_names >= 2
            and bool(np.all(is_named | ~np.isnan(packed.is_right)))
            and checked >= _FEWEST_CHECKED * num_names
            and cells <= _MOST_CELLS
        )

    def _first(self, num_names: int) -> Array:
        """(S, K) log chances as the groups have them, the rest even over the other names."""
        packed, groups = self.packed, np.flatnonzero(self._name_of_group >= 0)
        table: Array = np.full((len(packed.samples), num_names), np.nan)
        table[packed.sample_of_group[groups], self._name_of_group[groups]] = self.chances[groups]
        left = 1 - np.nansum(table, axis=1)
        others = np.maximum(np.isnan(table).sum(axis=1), 1)
        table = np.where(np.isnan(table), (left / others)[:, None], table)
        table = np.where(self._named.is_possible, np.maximum(table, 1e-12), 0.0)
        with np.errstate(divide="ignore"):
            return np.asarray(np.log(table / table.sum(axis=1, keepdims=True)))

    def look(self, means: Array) -> Array:
        """(A,) log odds that each answer is right, by what all others say; infinite on gold.

        Args:
            means: (P,) reliability of each person.
        """
        packed, named = self.packed, self._named
        truth = np.exp(self._log_truth)
        confused = confusion.confusions(named, truth, means)
        shares = truth.sum(axis=0) + _PRIOR_SHARE
        self._log_truth = confusion.truths(named, confused, shares / shares.sum())
        found = np.exp(self._log_truth[packed.sample_of_group, self._name_of_group])
        self.chances = _with_gold(packed, found)
        evidence = np.zeros(len(packed.name))
        evidence[self._is_named] = confusion.evidence(
            named, self._log_truth, confused, self._in_group
        )
        return _certain_on_gold(packed, evidence)

    def by_chance(self) -> Array:
        """(P,) share of right answers of who gives each name as often, whatever the sample."""
        named, shares = self._named, np.exp(self._log_truth).sum(axis=0)
        number = len(self.packed.annotators)
        right = np.bincount(named.person, (shares / shares.sum())[named.name], number)
        # Of who has answered nothing nothing is known: as if any name.
        return (right + 1 / len(shares)) / (np.bincount(named.person, minlength=number) + 1)


def _name_of_group(packed: Opinions) -> Array:
    """(G,) int, the name of a group's first answer."""
    first = np.unique(packed.group, return_index=True)[1]
    return np.asarray(packed.name[first])


def _is_checked(packed: Opinions, voices: Voices) -> Array:
    """(A,) bool: more than one voice answered the sample, or it is gold."""
    gold = packed.sample[~np.isnan(packed.is_right)]
    return np.asarray((voices.on_sample > 1.5) | np.isin(packed.sample, gold))


def _certain_on_gold(packed: Opinions, evidence: Array) -> Array:
    known = np.where(packed.is_right == 1, np.inf, -np.inf)
    return np.where(np.isnan(packed.is_right), evidence, known)


def _with_gold(packed: Opinions, chances: Array) -> Array:
    """(G,) chances, on gold samples the share of a group's known answers that are right."""
    gold = np.flatnonzero(~np.isnan(packed.is_right))
    right = np.bincount(packed.group[gold], packed.is_right[gold], len(chances))
    number = np.bincount(packed.group[gold], minlength=len(chances))
    is_known = np.isin(packed.sample_of_group, packed.sample[gold])
    return np.where(is_known, right / np.maximum(number, 1), chances)


def _possible(packed: Opinions, num_names: int) -> Array:
    """(S, K) the names that gold leaves: the right one, or all but the wrong ones."""
    shape = (len(packed.samples), num_names)
    right, wrong = np.zeros(shape, dtype=bool), np.zeros(shape, dtype=bool)
    for table, value in ((right, 1.0), (wrong, 0.0)):
        known = (packed.is_right == value) & (packed.name >= 0)
        table[packed.sample[known], packed.name[known]] = True
    found = np.where(right.any(axis=1, keepdims=True), right, ~wrong)
    # Every name was given and is wrong: the true one is a name that no annotator knows.
    return np.where(found.any(axis=1, keepdims=True), found, True)
