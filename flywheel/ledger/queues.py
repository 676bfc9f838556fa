"""How the queue and the campaigns stand, and what people answered where the answer is known.

A few counting statements, and a bounded number of answers. What an answer means is not known here.
"""

from __future__ import annotations

from collections import defaultdict
from datetime import datetime
from typing import NamedTuple

from sqlalchemy import Connection, func, select

from flywheel.ledger.labeling import STANDS, newest_labels
from flywheel.ledger.tables import annotations as given
from flywheel.ledger.tables import labeling_tasks
from flywheel.records import Json, Purpose

_OPEN = ("waiting", "sent")


class Queue(NamedTuple):
    """What people are still to look at."""

    num_waiting: int
    """labeling tasks that are not sent yet"""
    num_sent: int
    """that are with people"""
    oldest: datetime | None
    """when the one was chosen that has waited longest"""
    priority: float | None
    """of that one, 0..1, without ageing"""


class GoldAnswer(NamedTuple):
    """What somebody said of a sample whose answer is known."""

    annotator: str
    answer: Json
    known: Json


def measure_queue(connection: Connection) -> Queue:
    """How long the queue is, and what has waited longest."""
    table = labeling_tasks.c
    counts = (
        select(table.state, func.count().label("number"))
        .where(table.state.in_(_OPEN))
        .group_by(table.state)
    )
    number = {row.state: int(row.number) for row in connection.execute(counts)}
    oldest = (
        select(table.created_at, table.priority)
        .where(table.state.in_(_OPEN))
        .order_by(table.created_at, table.priority.desc(), table.seq)
        .limit(1)
    )
    row = connection.execute(oldest).first()
    return Queue(
        num_waiting=number.get("waiting", 0),
        num_sent=number.get("sent", 0),
        oldest=None if row is None else row.created_at,
        priority=None if row is None else float(row.priority),
    )


def count_by_campaign(connection: Connection) -> dict[int, dict[str, int]]:
    """How many labeling tasks of each campaign are in each state; states without any are missing."""
    table = labeling_tasks.c
    query = (
        select(table.campaign, table.state, func.count().label("number"))
        .where(table.campaign.is_not(None))
        .group_by(table.campaign, table.state)
    )
    counts: defaultdict[int, dict[str, int]] = defaultdict(dict)
    for row in connection.execute(query):
        counts[row.campaign][row.state] = int(row.number)
    return dict(counts)


def count_reviews(connection: Connection) -> dict[str, int]:
    """How many samples went to the experts, by the state of their labeling task."""
    table = labeling_tasks.c
    query = (
        select(table.state, func.count().label("number"))
        .where(table.purpose == Purpose.REVIEW.value)
        .group_by(table.state)
    )
    return {row.state: int(row.number) for row in connection.execute(query)}


def gold_answers(connection: Connection, limit: int) -> list[GoldAnswer]:
    """The newest answers on gold samples whose label still stands."""
    query = (
        select(given.c.annotator, given.c.sample_id, given.c.answer)
        .where(
            given.c.purpose == Purpose.GOLD.value,
            *STANDS,
        )
        .order_by(given.c.updated_at.desc(), given.c.id.desc())
        .limit(limit)
    )
    rows = connection.execute(query).all()
    known = newest_labels(connection, sorted({row.sample_id for row in rows}))
    return [
        GoldAnswer(row.annotator, row.answer, known[row.sample_id].answer)
        for row in rows
        if row.sample_id in known and known[row.sample_id].answer is not None
    ]
