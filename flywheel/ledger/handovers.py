"""How far each release has come on its way to a server of the user's own."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from datetime import datetime

from sqlalchemy import Connection, func, select, update

from flywheel.ledger.dialects import insert_new
from flywheel.ledger.door_tables import handovers
from flywheel.ledger.tables import predictions
from flywheel.records import Release


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
    connection.execute(insert_new(connection, handovers), row)
    found = get_handover(connection, release.number)
    assert found is not None  # noqa: S101  it was just written
    return found


def get_handover(connection: Connection, number: int) -> Handover | None:
    """The hand-over of a release; None where it has none."""
    query = select(handovers).where(handovers.c.release == number)
    row = connection.execute(query).mappings().one_or_none()
    return None if row is None else Handover(**row)


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
