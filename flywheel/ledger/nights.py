"""Nights and their steps: what is done, so that a killed night continues where it was.

A step is done when its row is there; its result is in the row. The caller passes the times of the
schedule.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, replace
from datetime import datetime
from typing import NamedTuple

from sqlalchemy import Connection, delete, func, insert, or_, select, update

from flywheel.ledger.codec import from_row
from flywheel.ledger.tables import nights, skips, steps
from flywheel.records import Json, Night


class FinishedStep(NamedTuple):
    """A finished step of a night."""

    name: str
    result: Json
    seconds: float


def open_night(
    connection: Connection, now: datetime, slot: datetime | None = None, *, is_early: bool = False
) -> Night:
    """The night that is not finished, else a new one; either belongs to the slot from now on."""
    last = last_night(connection)
    if last is not None and last.finished_at is None:
        if slot is not None and (last.slot is None or last.slot < slot):
            mine = update(nights).where(nights.c.number == last.number)
            connection.execute(mine.values(slot=slot))
            last = replace(last, slot=slot)
        return last
    night = Night(
        number=last.number + 1 if last else 1,
        started_at=now,
        finished_at=None,
        slot=slot,
        is_early=is_early,
    )
    connection.execute(insert(nights), asdict(night))
    return night


def night_of_slot(connection: Connection, slot: datetime, now: datetime) -> Night | None:
    """The finished night that a slot has had; None when it has had none.

    Its own, or any that was under way at that time or after it. A night that seems to have
    finished in the future says nothing: the clock was wrong.
    """
    seen = nights.c.finished_at
    had = or_(nights.c.slot == slot, (slot <= seen) & (seen <= now))
    query = select(nights).where(seen.is_not(None), had).order_by(nights.c.number).limit(1)
    row = connection.execute(query).first()
    return None if row is None else from_row(Night, row)


def last_night(connection: Connection) -> Night | None:
    """The newest night, finished or not."""
    row = connection.execute(select(nights).order_by(nights.c.number.desc()).limit(1)).first()
    return None if row is None else from_row(Night, row)


def current_night_number(connection: Connection) -> int:
    """The night whose budget is being spent: the open one, else the one to come."""
    last = last_night(connection)
    if last is None:
        return 1
    return last.number if last.finished_at is None else last.number + 1


def finish_night(connection: Connection, number: int, now: datetime) -> None:
    """Mark a night finished; the first time stays."""
    connection.execute(
        update(nights)
        .where(nights.c.number == number, nights.c.finished_at.is_(None))
        .values(finished_at=now)
    )


def finished_steps(connection: Connection, night: int) -> dict[str, FinishedStep]:
    """The steps of a night that are done, by name, in the order in which they finished."""
    query = select(steps).where(steps.c.night == night).order_by(steps.c.finished_at)
    return {row.name: from_row(FinishedStep, row) for row in connection.execute(query)}


def last_time_of(connection: Connection, step: str) -> datetime | None:
    """When a step was last done, in whatever night."""
    query = select(func.max(steps.c.finished_at)).where(steps.c.name == step)
    return connection.execute(query).scalar()


def finish_step(connection: Connection, night: int, step: FinishedStep, now: datetime) -> None:
    """Record that a step is done, and its result; done again, the new result counts."""
    connection.execute(delete(steps).where(steps.c.night == night, steps.c.name == step.name))
    row = {**step._asdict(), "night": night, "finished_at": now}
    connection.execute(insert(steps), row)


def add_skip(
    connection: Connection, subject: str, reason: str, night: int | None, now: datetime
) -> None:
    """Record that something was set aside, once for each subject and reason."""
    subject, reason = subject[:200], reason[:500]  # the widths of the columns
    known = select(skips.c.seq).where(skips.c.subject == subject, skips.c.reason == reason)
    if connection.execute(known).first() is None:
        row = {"subject": subject, "reason": reason, "night": night, "at": now}
        connection.execute(insert(skips), row)


def skips_of(connection: Connection, night: int) -> Sequence[tuple[str, str]]:
    """What was set aside in a night: subject and reason."""
    query = select(skips.c.subject, skips.c.reason).where(skips.c.night == night)
    rows = connection.execute(query.order_by(skips.c.seq))
    return [(row.subject, row.reason) for row in rows]
