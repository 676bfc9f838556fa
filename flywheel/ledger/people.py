"""What people answered of late, and what it showed of them. What an answer means is not known here."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from datetime import datetime

from sqlalchemy import Connection, delete, insert, select

from flywheel.ledger.labeling import STANDS, annotation_of
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
            *STANDS,
        )
        .order_by(given.c.updated_at.desc(), given.c.id.desc())
        .limit(limit)
    )
    return [annotation_of(row) for row in connection.execute(query)][::-1]


def save_people(connection: Connection, measured: Sequence[Measured], now: datetime) -> None:
    """Replace what is known of everybody."""
    connection.execute(delete(people))
    rows = [{**asdict(one), "measured_at": now} for one in measured]
    if rows:
        connection.execute(insert(people), rows)


def read_people(connection: Connection) -> list[Measured]:
    """What is known of everybody, as of the last time that labels were made; by name."""
    columns = [people.c[one.name] for one in fields(Measured)]
    rows = connection.execute(select(*columns).order_by(people.c.annotator)).mappings()
    return [Measured(**row) for row in rows]
