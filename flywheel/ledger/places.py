"""The places of open labeling tasks in the queue, and what they follow from."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import NamedTuple

from sqlalchemy import Connection, bindparam, select, update

from flywheel.ledger.failures import see_again
from flywheel.ledger.nights import current_night_number
from flywheel.ledger.outbox import CHUNK, update_by_key
from flywheel.ledger.tables import campaigns, choices, labeling_tasks
from flywheel.records import Purpose, Share


class Place(NamedTuple):
    """An open labeling task in the queue."""

    sample_id: str
    purpose: Purpose
    key: str | None
    """None: it is not planned yet"""
    external_project: int | None
    external_id: int | None
    """None: not sent yet"""
    priority: float
    """its own, without ageing"""
    place: float | None
    """as Label Studio has it"""
    created_at: datetime
    share: Share | None
    """None for a gold sample that was never chosen"""
    is_leaving: bool
    """a run that ended early was about to withdraw it, and may have done so"""


def open_places(connection: Connection) -> list[Place]:
    """Every labeling task that waits or is with people and that nobody has finished."""
    table = labeling_tasks.c
    query = (
        select(
            table.sample_id,
            table.purpose,
            table.key,
            campaigns.c.external_project,
            table.external_id,
            table.priority,
            table.place,
            table.created_at,
            choices.c.share,
            table.note,
        )
        .outerjoin(campaigns, campaigns.c.id == table.campaign)
        .outerjoin(choices, choices.c.sample_id == table.sample_id)
        .where(table.state.in_(("waiting", "sent")))
        .order_by(table.seq)
    )
    return [
        Place(
            sample_id=row.sample_id,
            purpose=Purpose(row.purpose),
            key=row.key,
            external_project=row.external_project,
            external_id=row.external_id,
            priority=row.priority,
            place=row.place,
            created_at=row.created_at,
            share=Share(row.share) if row.share else None,
            is_leaving=bool(row.note),
        )
        for row in connection.execute(query)
    ]


def move_places(
    connection: Connection, priorities: Mapping[str, float], places: Mapping[str, float]
) -> None:
    """Record new priorities by sample of a choice, and new places by key."""
    if priorities:
        mine = (
            labeling_tasks.c.sample_id == bindparam("sample"),
            labeling_tasks.c.purpose == Purpose.CHOICE.value,
        )
        rows = [{"sample": key, "value": value} for key, value in priorities.items()]
        moved = update(labeling_tasks).where(*mine).values(priority=bindparam("value"))
        connection.execute(moved, rows)
    update_by_key(connection, {"place": bindparam("value")}, places)


def withdraw(connection: Connection, sample_ids: list[str], note: str, now: datetime) -> None:
    """Nobody needs to look at these samples any longer; their failures are merely seen again."""
    for start in range(0, len(sample_ids), CHUNK):
        part = sample_ids[start : start + CHUNK]
        task = (
            labeling_tasks.c.sample_id.in_(part),
            labeling_tasks.c.purpose == Purpose.CHOICE.value,
        )
        gone = {"state": "withdrawn", "note": note[:500]}
        connection.execute(update(labeling_tasks).where(*task).values(gone))
    see_again(connection, sample_ids, current_night_number(connection), now)
