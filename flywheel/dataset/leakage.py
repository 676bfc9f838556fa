"""Prevents leakage: no sample, group or near-duplicate is in both the training and the test set.

The split of a group is fixed by a hash of its name, so conflicts are rare: start data of a test
group, or copies that carry no group. The training row of a conflict is dropped, since all numbers
rest on the test set. Start data is the exception: models train on it from the first night, so the
test row is dropped.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.spatial.distance import cdist

from flywheel.records import Array, DatasetRow, Split

_BLOCK = 4_096
_FEW_NUMBERS = 16
"""Correlation means little for shorter vectors: for two numbers it is always 1 or -1."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Dropped:
    """A row that was left out, and the reason."""

    sample_id: str
    reason: str


def keep_splits_apart(
    rows: Sequence[DatasetRow],
    groups: Mapping[str, str],
    vectors: Mapping[str, Array],
    near_duplicate: float,
) -> tuple[list[DatasetRow], list[Dropped]]:
    """Return the rows without leaks between the splits, and the dropped rows.

    Args:
        rows: labeled samples, each sample once.
        groups: sample id -> group.
        vectors: sample id -> flattened model input (D,).
        near_duplicate: correlation from which two vectors count as copies; vectors of fewer than
            16 numbers are copies only if they are equal.
    """
    dropped: dict[str, str] = {}
    start = [row for row in rows if row.split is Split.TRAIN and row.origin == "start"]
    started = {groups[row.sample_id] for row in start}
    for row in rows:
        if row.split is Split.TEST and groups[row.sample_id] in started:
            dropped[row.sample_id] = f"group {groups[row.sample_id]} is trained on as start data"
    testing = [row for row in rows if row.split is Split.TEST and row.sample_id not in dropped]
    dropped |= _copies(testing, start, vectors, near_duplicate, "start data")
    testing = [row for row in testing if row.sample_id not in dropped]
    test_groups = {groups[row.sample_id] for row in testing}
    for row in rows:
        if row.split is Split.TRAIN and groups[row.sample_id] in test_groups:
            dropped[row.sample_id] = f"group {groups[row.sample_id]} is in the test set"
    training = [row for row in rows if row.split is Split.TRAIN and row.sample_id not in dropped]
    dropped |= _copies(training, testing, vectors, near_duplicate, "test sample")
    kept = [row for row in rows if row.sample_id not in dropped]
    return kept, [Dropped(sample_id=key, reason=reason) for key, reason in dropped.items()]


def _copies(
    rows: Sequence[DatasetRow],
    others: Sequence[DatasetRow],
    vectors: Mapping[str, Array],
    near_duplicate: float,
    what: str,
) -> dict[str, str]:
    """Return sample id -> reason for the rows that are near-duplicates of one of the others."""
    if not rows or not others:
        return {}
    theirs = np.stack([vectors[row.sample_id] for row in others])
    found = {}
    for start in range(0, len(rows), _BLOCK):
        block = rows[start : start + _BLOCK]
        correlations = _correlations(np.stack([vectors[row.sample_id] for row in block]), theirs)
        nearest = correlations.argmax(axis=1)
        for index, row in enumerate(block):
            if correlations[index, nearest[index]] >= near_duplicate:
                other = others[nearest[index]].sample_id
                found[row.sample_id] = f"near-duplicate of {what} {other}"
    return found


def _correlations(ours: Array, theirs: Array) -> Array:
    """Return (N, M): 1 for equal vectors, else their correlation, or 0 if it is undefined."""
    if ours.shape[1] < _FEW_NUMBERS:
        equal: Array = cdist(ours, theirs, "chebyshev") == 0
        return equal.astype(np.float32)
    ours, theirs = _standardised(ours), _standardised(theirs)
    correlations = np.round(ours @ theirs.T, 6)  # rounding errors leave equal vectors below 1
    correlations[np.ix_(~ours.any(axis=1), ~theirs.any(axis=1))] = 1.0
    return correlations


def _standardised(vectors: Array) -> Array:
    """Return (N, D) rows of mean 0 and length 1, whose products are correlations; flat rows are 0."""
    stacked = vectors.astype(np.float32)
    before = np.linalg.norm(stacked, axis=1, keepdims=True)
    stacked -= stacked.mean(axis=1, keepdims=True)
    length = np.linalg.norm(stacked, axis=1, keepdims=True)
    flat = length <= 1e-5 * before  # the rest is rounding error
    standardised: Array = np.divide(stacked, length, out=np.zeros_like(stacked), where=~flat)
    return standardised
