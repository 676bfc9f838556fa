"""Checkpoints and releases: the record of every checkpoint, and the pointer to the one that serves.

The weights are a blob of the checkpoint's digest. Adding a checkpoint twice changes nothing. The
release pointer is a log: its last row is what serves, and a rollback is a new row that names an
old checkpoint.
"""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import Connection, Row, insert, select

from flywheel.errors import UnknownIdError
from flywheel.ledger.codec import from_json, to_json
from flywheel.ledger.dialects import insert_new
from flywheel.ledger.tables import checkpoints, releases
from flywheel.records import Checkpoint, Release

RELEASE_LOCK = "the release"
"""held for the short time that a change of the release takes"""


def add_checkpoint(connection: Connection, checkpoint: Checkpoint) -> None:
    """Store a checkpoint's record, once for each digest."""
    row = {
        "digest": checkpoint.digest,
        "record": to_json(checkpoint),
        "created_at": checkpoint.created_at,
    }
    connection.execute(insert_new(connection, checkpoints), row)


def get_checkpoint(connection: Connection, digest: str) -> Checkpoint:
    """The record of a digest.

    Raises:
        UnknownIdError: it is not in the ledger.
    """
    query = select(checkpoints.c.record).where(checkpoints.c.digest == digest)
    record = connection.execute(query).scalar()
    if record is None:
        raise UnknownIdError(
            f"the ledger holds no checkpoint {digest}; flywheel status lists those that it holds"
        )
    return from_json(Checkpoint, record)


def card_of(connection: Connection, digest: str) -> str | None:
    """The digest of a checkpoint's card (flywheel/artifact.py); None when it has none."""
    card = checkpoints.c.record["card_digest"].as_string()
    return connection.execute(select(card).where(checkpoints.c.digest == digest)).scalar()


def latest_checkpoint(connection: Connection) -> Checkpoint | None:
    """The checkpoint that was trained last."""
    order = (checkpoints.c.created_at.desc(), checkpoints.c.digest)
    record = connection.execute(select(checkpoints.c.record).order_by(*order).limit(1)).scalar()
    return None if record is None else from_json(Checkpoint, record)


def add_release(
    connection: Connection,
    digest: str,
    reason: str,
    now: datetime,
    threshold: float | None = None,
) -> Release:
    """Point at a checkpoint and its threshold; pointing at what serves already adds nothing.

    Numbers count from 1 without a gap. The checkpoint must be in the ledger. A new threshold for
    the same checkpoint is a release whose previous digest stays: there is still the same way back.
    """
    current = current_release(connection)
    previous = None if current is None else current.checkpoint_digest
    if current is not None and current.checkpoint_digest == digest:
        if current.threshold == threshold:
            return current
        previous = current.previous_digest
    release = Release(
        number=1 if current is None else current.number + 1,
        checkpoint_digest=digest,
        previous_digest=previous,
        reason=reason,
        threshold=threshold,
        created_at=now,
    )
    row = {name: getattr(release, name) for name in releases.c.keys()}  # noqa: SIM118
    connection.execute(insert(releases).values(row))
    return release


def current_release(connection: Connection) -> Release | None:
    """What serves; None before the first release."""
    query = select(releases).order_by(releases.c.number.desc()).limit(1)
    row = connection.execute(query).first()
    return None if row is None else _release(row)


def release_history(connection: Connection) -> list[Release]:
    """Every release, the first one first."""
    return [_release(row) for row in connection.execute(select(releases).order_by("number"))]


def _release(row: Row[tuple[object, ...]]) -> Release:
    return Release(**row._mapping)  # noqa: SLF001  # SQLAlchemy's public name for it
