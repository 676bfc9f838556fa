"""What named answers say about the true name, given which names each annotator confuses.

Sharper than `flywheel.annotators.judges` where answers are names that mean the same on every sample:
it knows that some names are rarer than others, which are confused, and who always says the same.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import scipy

from flywheel.records import Array

_SIZES = np.array([1.0, 3.0, 10.0, 30.0, 100.0, 1e4])
"""How many answers a person's usual confusion is worth, against what the person really said."""

_LOG_BELIEF = np.log([0.02, 0.03, 0.05, 0.1, 0.2, 0.6])
"""Most annotators confuse names like all others."""

_PAIR_SIZES = np.array([1.0, 3.0, 10.0, 30.0, 100.0, 1000.0])
"""Wrong answers to each pair of names that an even spread over the pairs is worth."""

_MUTUAL = 300.0
"""Wrong answers to a true name that "confused this way as often as the other" is worth. Which of
two names was the true one is guessed by the same confusion, so less would feed on itself."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Named:
    """A answers on S samples by P annotators, all of them one of K names."""

    sample: Array = field(repr=False)
    """(A,) int"""
    person: Array = field(repr=False)
    """(A,) int"""
    name: Array = field(repr=False)
    """(A,) int"""
    weight: Array = field(repr=False)
    """(A,) voices that the answer counts for, in (0, 1]"""
    is_possible: Array = field(repr=False)
    """(S, K) bool, false where gold excludes the name; one name is left where it is known"""
    is_checked: Array = field(repr=False)
    """(A,) bool: another annotator answered the sample, or it is gold"""


def confusions(named: Named, truth: Array, means: Array) -> Array:
    """(P, K, K) chance of each person to say a name (last axis), given the true one.

    Model: Dawid and Skene 1979, with a Dirichlet prior for each row of a person's matrix. Its
    centre is the person's reliability on the diagonal, and off it the confusion that all annotators
    share; its size is one of six, mixed by how likely each makes what the person said on
    checked samples (Dirichlet-multinomial). So the matrix is that of all annotators, scaled to the
    person's reliability, until a person's own answers say otherwise.

    Args:
        named: the answers.
        truth: (S, K) chance of each name to be the true one.
        means: (P,) reliability of each person.
    """
    num_annotators = len(means)
    counts = _counts(named, truth, num_annotators)
    usual = _usual(counts.sum(axis=0), means)
    log_belief = np.tile(_LOG_BELIEF, (num_annotators, 1))
    matrices = []
    for place, size in enumerate(_SIZES):
        prior, rows = size * usual, counts.sum(axis=2)
        log_belief[:, place] += (
            scipy.special.gammaln(size) - scipy.special.gammaln(size + rows)
        ).sum(axis=1)
        gained = scipy.special.gammaln(prior + counts) - scipy.special.gammaln(prior)
        log_belief[:, place] += gained.sum(axis=(1, 2))
        matrices.append((prior + counts) / (size + rows)[:, :, None])
    belief = scipy.special.softmax(log_belief, axis=1)
    return np.asarray(np.einsum("ps,spka->pka", belief, np.array(matrices)))


def truths(named: Named, confused: Array, shares: Array) -> Array:
    """(S, K) log chance of each name to be the true one.

    Args:
        named: the answers.
        confused: (P, K, K) from `confusions`.
        shares: (K,) of each name among all samples.
    """
    said = named.weight[:, None] * np.log(confused[named.person, :, named.name])
    found = np.where(named.is_possible, np.log(shares), -np.inf)
    for name in range(len(shares)):
        found[:, name] += np.bincount(named.sample, said[:, name], len(found))
    return np.asarray(scipy.special.log_softmax(found, axis=1))


def evidence(named: Named, log_truth: Array, confused: Array, same_voice: Array) -> Array:
    """(A,) log odds that each answer is right, by what all others say of the sample.

    Formula: P(a) against the sum over the other names k of P(k) q(a | k), where P is the chance
    without what the answer's own voice says, and q how the person errs when k is true.

    Args:
        named: the answers.
        log_truth: (S, K) from `truths`.
        confused: (P, K, K) from `confusions`.
        same_voice: (A,) int, equal for answers of one voice that are the same.
    """
    said = np.log(confused[named.person, :, named.name])  # (A, K)
    own = np.stack(
        [np.bincount(same_voice, named.weight * column)[same_voice] for column in said.T], axis=1
    )
    others = np.maximum(log_truth, -700.0)[named.sample] - own
    right = np.take_along_axis(others, named.name[:, None], axis=1)[:, 0]
    diagonal = np.einsum("pkk->pk", confused)[named.person]
    wrong = others + said - np.log1p(-np.minimum(diagonal, 1 - 1e-9))
    np.put_along_axis(wrong, named.name[:, None], -np.inf, axis=1)
    return np.asarray(right - scipy.special.logsumexp(wrong, axis=1))


def _counts(named: Named, truth: Array, num_annotators: int) -> Array:
    """(P, K, K) how often each person said a name, given the true one, on checked samples."""
    num_names = truth.shape[1]
    checked = np.flatnonzero(named.is_checked)
    cell = named.person[checked, None] * num_names + np.arange(num_names)
    cell = cell * num_names + named.name[checked, None]
    weights = truth[named.sample[checked]]
    found = np.bincount(cell.ravel(), weights.ravel(), num_annotators * num_names**2)
    return found.reshape(num_annotators, num_names, num_names)


def _usual(counts: Array, means: Array) -> Array:
    """(P, K, K) the confusion of all annotators, scaled to each person's reliability.

    Two names are thought to be confused either way as often; how often each pair is, shrunk to
    an even spread by the evidence, is where the confusion of each true name starts from.
    """
    diagonal = np.eye(len(counts), dtype=bool)
    wrong = np.where(diagonal, 0.0, counts)
    upper = np.triu_indices(len(counts), 1)
    pairs = np.zeros_like(wrong)
    pairs[upper] = _shrunk((wrong + wrong.T)[upper])
    pairs += pairs.T
    wrong = wrong + _MUTUAL * pairs / pairs.sum(axis=1, keepdims=True)
    wrong /= wrong.sum(axis=1, keepdims=True)
    right = means[:, None, None]
    return np.asarray(np.where(diagonal, right, (1 - right) * wrong))


def _shrunk(counts: Array) -> Array:
    """(N,) shares of the counts, each prior size mixed in by its Dirichlet-multinomial chance."""
    size, total = len(counts), counts.sum()
    prior = _PAIR_SIZES[:, None]
    likely = scipy.special.gammaln(prior * size) - scipy.special.gammaln(prior * size + total)
    likely = likely[:, 0] + (
        scipy.special.gammaln(prior + counts) - scipy.special.gammaln(prior)
    ).sum(axis=1)
    shares = (prior + counts) / (prior * size + total)
    return np.asarray(scipy.special.softmax(likely) @ shares)
