"""What people did, as work: who spent how many seconds on what, and what came of it.

Skips, refused and deleted annotations took time as well. Every function reads a bounded number of
rows. What a second costs is not known here.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any, NamedTuple

from sqlalchemy import Connection, Row, and_, select

from flywheel.ledger.labeling import newest_labels
from flywheel.ledger.tables import annotations as given
from flywheel.ledger.tables import labeling_tasks, samples
from flywheel.records import PEOPLE, Purpose, Split


class Work(NamedTuple):
    """One annotation as work."""

    annotator: str
    sample_id: str
    purpose: Purpose
    split: Split
    campaign: int | None
    """in which it was given; None where that was not kept"""
    night: int | None
    """whose budget asked for the labeling task"""
    seconds: float | None
    """None: not measured"""
    is_given: bool
    """an answer as Label Studio counts them: neither skipped nor deleted"""
    is_answer: bool
    """one that the task can read, too"""
    at: datetime


def recent_work(connection: Connection, limit: int) -> list[Work]:
    """The newest annotations of every kind, oldest first."""
    asked = labeling_tasks.c
    mine = and_(asked.sample_id == given.c.sample_id, asked.purpose == given.c.purpose)
    query = (
        select(
            given.c.annotator,
            given.c.sample_id,
            given.c.purpose,
            samples.c.split,
            given.c.labeling_task,
            asked.campaign,
            asked.night,
            given.c.lead_time_seconds,
            given.c.skipped,
            given.c.refused,
            given.c.deleted_at,
            given.c.updated_at,
        )
        .join(samples, samples.c.id == given.c.sample_id)
        .outerjoin(labeling_tasks, mine)
        .order_by(given.c.updated_at.desc(), given.c.id.desc())
        .limit(limit)
    )
    return [_work(row) for row in connection.execute(query)][::-1]


def people_labels(connection: Connection, sample_ids: Sequence[str]) -> dict[str, float]:
    """The reliability of each sample's label, of those that people gave and that stand."""
    newest = newest_labels(connection, sample_ids)
    return {
        key: label.reliability
        for key, label in newest.items()
        if label.answer is not None and label.source == PEOPLE
    }


def _work(row: Row[Any]) -> Work:
    told = (row.labeling_task or "").partition("/")[0]
    is_given = not row.skipped and row.deleted_at is None
    return Work(
        annotator=row.annotator,
        sample_id=row.sample_id,
        purpose=Purpose(row.purpose),
        split=Split(row.split),
        campaign=int(told) if told.isdecimal() else row.campaign,
        night=row.night,
        seconds=row.lead_time_seconds,
        is_given=is_given,
        is_answer=is_given and row.refused is None,
        at=row.updated_at,
    )
