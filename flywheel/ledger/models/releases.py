"""The release pointer: it only grows, so that every release has its history and a previous.

The last row is what serves. Going back is a new row that names an old checkpoint.
"""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import Connection, Row, insert, select

from flywheel.ledger.tables import releases
from flywheel.records import Release


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
