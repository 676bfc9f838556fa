"""The slices of the task that samples are in. It refuses to know what is compared on them."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import Connection

from flywheel.blobs import Blobs
from flywheel.ledger.samples import load_each
from flywheel.task import Task

_PART = 250
"""samples whose payloads are in memory together"""


def slices_of(
    connection: Connection, blobs: Blobs, task: Task, sample_ids: Sequence[str]
) -> dict[str, tuple[str, ...]]:
    """The slices that each sample is in; one that cannot be loaded is missing."""
    found: dict[str, tuple[str, ...]] = {}
    for start in range(0, len(sample_ids) if task.slices else 0, _PART):
        loaded, _ = load_each(connection, blobs, sample_ids[start : start + _PART])
        for key, sample in loaded.items():
            found[key] = tuple(name for name, holds in task.slices.items() if holds(sample))
    return found
