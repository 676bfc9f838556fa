"""What groups of answers say about which of them is right, given how good their people are.

Wrong answers coincide as often as the data say: rarely where there are many ways to be wrong,
often where there are few. Refuses to know people: they come as chances of being right.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import special

from flywheel.records import Array

_THETAS = np.geomspace(0.25, 256.0, 31)
"""Concentrations looked at."""

_USUAL_THETA = 4.0
_LOG_SPREAD = 1.2
"""Prior of log theta: its centre is that of five alternatives, within a factor of ten."""

_LARGEST = 60.0
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
    """(G,) log odds of a group being right against that none of its sample's groups is.

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
    rising = special.gammaln(theta + total) - special.gammaln(theta + total - votes)
    return np.asarray(rising - special.gammaln(seats))


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
    odds = np.minimum(log_odds(groups, support, theta), _LARGEST)
    total, number = groups.total(groups.votes), groups.total(np.ones(len(support)))
    nobody = number * np.log(theta) + special.gammaln(theta) - special.gammaln(theta + total)
    return float(np.sum(nobody + np.log1p(groups.total(np.exp(odds)))))
