"""Where a model comes from: the dataset versions behind it and the record of its training.

Bounded however long the line is. What the ledger does not hold is None, never an error.
"""

from __future__ import annotations

from sqlalchemy import Connection

from flywheel.errors import UnknownIdError
from flywheel.ledger.history import ancestry
from flywheel.ledger.releases import get_checkpoint
from flywheel.records import Checkpoint, DatasetVersion

_PARENTS = 6


def versions_of(connection: Connection, version_id: str | None) -> tuple[DatasetVersion, ...]:
    """A dataset version and its parents, newest first, six at most."""
    return () if version_id is None else tuple(ancestry(connection, version_id, _PARENTS))


def checkpoint_of(connection: Connection, digest: str | None) -> Checkpoint | None:
    """The record of a checkpoint; None for weights that were brought in by hand."""
    if digest is None:
        return None
    try:
        return get_checkpoint(connection, digest)
    except UnknownIdError:
        return None
