"""Nothing crosses a split: not a sample, not its group, not its near-duplicate.

The split of a group is fixed by hash before anyone looks at it, so conflicts are rare: start
data of a group that tests, or copies that carry no group. The test set is what the numbers
rest on, so the training row goes; only start data, which is trained on from the first night,
makes a test row go instead.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from flywheel.records import Array, DatasetRow, Split

_BLOCK = 4_096


@dataclass(frozen=True, kw_only=True, slots=True)
class Dropped:
    """A row that was left out, and why."""

    sample_id: str
    reason: str


def keep_splits_apart(
    rows: Sequence[DatasetRow],
    groups: Mapping[str, str],
    vectors: Mapping[str, Array],
    near_duplicate: float,
) -> tuple[list[DatasetRow], list[Dropped]]:
    """Rows of which none crosses a split, and the rows that had to go.

    Args:
        rows: labeled samples, each sample once.
        groups: group of each sample.
        vectors: (D,) model input of each sample, flattened.
        near_duplicate: correlation of two vectors from which they count as copies.
    """
    dropped: dict[str, str] = {}
    started = {groups[r.sample_id] for r in rows if r.split is Split.TRAIN and r.origin == "start"}
    for row in rows:
        if row.split is Split.TEST and groups[row.sample_id] in started:
            dropped[row.sample_id] = f"group {groups[row.sample_id]} is trained on as start data"
    testing = [r for r in rows if r.split is Split.TEST and r.sample_id not in dropped]
    test_groups = {groups[row.sample_id] for row in testing}
    for row in rows:
        if row.split is Split.TRAIN and groups[row.sample_id] in test_groups:
            dropped[row.sample_id] = f"group {groups[row.sample_id]} is in the test set"
    training = [r for r in rows if r.split is Split.TRAIN and r.sample_id not in dropped]
    dropped |= _copies(training, testing, vectors, near_duplicate)
    kept = [row for row in rows if row.sample_id not in dropped]
    return kept, [Dropped(sample_id=key, reason=reason) for key, reason in dropped.items()]


def _copies(
    training: Sequence[DatasetRow],
    testing: Sequence[DatasetRow],
    vectors: Mapping[str, Array],
    near_duplicate: float,
) -> dict[str, str]:
    """Training rows whose input correlates with a test row's as only copies do."""
    if not training or not testing:
        return {}
    tests = _standardised([vectors[row.sample_id] for row in testing])
    found = {}
    for start in range(0, len(training), _BLOCK):
        block = training[start : start + _BLOCK]
        likeness = _standardised([vectors[row.sample_id] for row in block]) @ tests.T
        nearest = likeness.argmax(axis=1)
        for index, row in enumerate(block):
            if likeness[index, nearest[index]] >= near_duplicate:
                other = testing[nearest[index]].sample_id
                found[row.sample_id] = f"near-duplicate of test sample {other}"
    return found


def _standardised(vectors: Sequence[Array]) -> Array:
    """(N, D) rows of mean 0 and length 1; their products are correlations."""
    stacked = np.stack(vectors).astype(np.float32)
    stacked -= stacked.mean(axis=1, keepdims=True)
    length = np.linalg.norm(stacked, axis=1, keepdims=True)
    standardised: Array = np.divide(stacked, length, out=np.zeros_like(stacked), where=length > 0)
    return standardised
