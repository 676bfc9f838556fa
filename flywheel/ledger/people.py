"""What people answered of late, and what it showed of them. What an answer means is not known here."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, delete, insert, select

from flywheel.ledger.labeling import annotation_of
from flywheel.ledger.tables import annotations as given
from flywheel.ledger.tables import people
from flywheel.records import Annotation


@dataclass(frozen=True, kw_only=True, slots=True)
class Measured:
    """How often a person is right."""

    annotator: str
    reliability: float
    """chance that an answer is right, in (0, 1)"""
    low: float
    """of the 0.95 interval"""
    high: float
    num_answers: int
    """that it rests on"""
    num_gold: int
    """of these, on gold samples"""


def recent_annotations(connection: Connection, limit: int) -> list[Annotation]:
    """The newest answers that stand, gold ones included, oldest first."""
    query = (
        select(given)
        .where(
            given.c.deleted_at.is_(None),
            given.c.refused.is_(None),
            given.c.skipped.is_(False),
        )
        .order_by(given.c.updated_at.desc(), given.c.id.desc())
        .limit(limit)
    )
    return [annotation_of(row) for row in connection.execute(query)][::-1]


def save_people(connection: Connection, measured: Sequence[Measured], now: datetime) -> None:
    """Replace what is known of everybody."""
    connection.execute(delete(people))
    rows = [
        {
            "annotator": one.annotator,
            "reliability": one.reliability,
            "low": one.low,
            "high": one.high,
            "num_answers": one.num_answers,
            "num_gold": one.num_gold,
            "measured_at": now,
        }
        for one in measured
    ]
    if rows:
        connection.execute(insert(people), rows)


def read_people(connection: Connection) -> list[Measured]:
    """What is known of everybody, as of the last time that labels were made; by name."""
    return [
        Measured(
            annotator=row.annotator,
            reliability=row.reliability,
            low=row.low,
            high=row.high,
            num_answers=row.num_answers,
            num_gold=row.num_gold,
        )
        for row in connection.execute(select(people).order_by(people.c.annotator))
    ]
