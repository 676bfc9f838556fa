"""Checkpoints and releases: the record of every checkpoint, and the pointer to the one that serves.

The weights are a blob of the checkpoint's digest. Adding a checkpoint twice changes nothing. The
release pointer is a log: its last row is what serves, and a rollback is a new row that names an
old checkpoint. A release for a server of the user's own has a hand-over, which says how far it has come.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from datetime import datetime

from sqlalchemy import Connection, func, insert, select, update

from flywheel.errors import UnknownIdError
from flywheel.ledger.codec import from_json, from_row, to_json, to_row
from flywheel.ledger.dialects import insert_new
from flywheel.ledger.serving_tables import checkpoints, handovers, releases
from flywheel.ledger.tables import predictions
from flywheel.records import Checkpoint, Release

RELEASE_LOCK = "the release"
"""held for the short time that a change of the release takes"""


def add_checkpoint(connection: Connection, checkpoint: Checkpoint) -> None:
    """Store a checkpoint's record, once for each digest."""
    row = to_row(checkpoints, checkpoint, record=to_json(checkpoint))
    connection.execute(insert_new(checkpoints), row)


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
    connection.execute(insert(releases), to_row(releases, release))
    return release


def current_release(connection: Connection) -> Release | None:
    """What serves; None before the first release."""
    query = select(releases).order_by(releases.c.number.desc()).limit(1)
    row = connection.execute(query).first()
    return None if row is None else from_row(Release, row)


def released_digest(connection: Connection) -> str | None:
    """The digest of what serves; None before the first release."""
    release = current_release(connection)
    return None if release is None else release.checkpoint_digest


def release_history(connection: Connection) -> list[Release]:
    """Every release, the first one first."""
    rows = connection.execute(select(releases).order_by("number"))
    return [from_row(Release, row) for row in rows]


@dataclass(frozen=True, kw_only=True, slots=True)
class Handover:
    """A release on its way; verified once the server reports it."""

    release: int
    due_at: datetime
    """from when an unverified one is overdue"""
    address: str | None = None
    """where the artifact was written"""
    announced_at: datetime | None = None
    """when the webhook took it"""
    verified_at: datetime | None = None
    """since when it is reported to serve"""
    fault: str = ""
    """of the last try"""
    tries: int = 0
    """since the last that succeeded"""
    tried_at: datetime | None = None

    def state(self, now: datetime) -> str:
        """Verified, announced or overdue."""
        if self.verified_at is not None:
            return "verified"
        return "overdue" if now >= self.due_at else "announced"


def open_handover(connection: Connection, release: Release, due_at: datetime) -> Handover:
    """The hand-over of a release, begun where it is new."""
    row = asdict(Handover(release=release.number, due_at=due_at))
    connection.execute(insert_new(handovers), row)
    found = get_handover(connection, release.number)
    assert found is not None  # noqa: S101  it was just written
    return found


def get_handover(connection: Connection, number: int) -> Handover | None:
    """The hand-over of a release; None where it has none."""
    query = select(handovers).where(handovers.c.release == number)
    row = connection.execute(query).one_or_none()
    return None if row is None else from_row(Handover, row)


def all_handovers(connection: Connection) -> dict[int, Handover]:
    """The hand-overs by number of their release."""
    rows = connection.execute(select(handovers).order_by(handovers.c.release))
    return {row.release: from_row(Handover, row) for row in rows}


def keep_handover(connection: Connection, now: Handover) -> None:
    """Write how far a hand-over has come."""
    row = asdict(replace(now, fault=now.fault[:500]))
    mine = handovers.c.release == now.release
    connection.execute(update(handovers).where(mine).values(**row))


def named_since(connection: Connection, since: datetime) -> dict[str, int]:
    """The models that predictions made since a time name, with the number of theirs."""
    query = (
        select(predictions.c.model_digest, func.count().label("number"))
        .where(predictions.c.created_at > since)
        .group_by(predictions.c.model_digest)
    )
    return {row.model_digest: row.number for row in connection.execute(query)}
