"""Annotators: their measured reliability, and their recent work with the time it took.

Skipped, refused and deleted annotations took time as well, so they count as work. Label Studio's
clock runs while a labeling task is open; what was left open counts less. Every function reads a
bounded number of rows or sums up in the database.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple

from sqlalchemy import ColumnElement, Connection, Row, and_, case, delete, func, insert, select

from flywheel.ledger.annotations import STANDS, newest_labels
from flywheel.ledger.codec import from_row, to_row
from flywheel.ledger.tables import annotations as given
from flywheel.ledger.tables import annotators, labeling_tasks, samples
from flywheel.records import ANNOTATORS, Annotation, Purpose, Split


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
        .where(*STANDS)
        .order_by(given.c.updated_at.desc(), given.c.id.desc())
        .limit(limit)
    )
    return [from_row(Annotation, row) for row in connection.execute(query)][::-1]


def save_annotators(connection: Connection, measured: Sequence[Measured], now: datetime) -> None:
    """Replace the measured reliability of all annotators."""
    connection.execute(delete(annotators))
    rows = [to_row(annotators, annotator, measured_at=now) for annotator in measured]
    if rows:
        connection.execute(insert(annotators), rows)


def read_annotators(connection: Connection) -> list[Measured]:
    """The measured reliability of all annotators when labels were last made; by name."""
    rows = connection.execute(select(annotators).order_by(annotators.c.annotator))
    return [from_row(Measured, row) for row in rows]


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
            given.c.lead_time_seconds.label("seconds"),
            given.c.skipped,
            given.c.refused,
            given.c.deleted_at,
            given.c.updated_at.label("at"),
        )
        .join(samples, samples.c.id == given.c.sample_id)
        .outerjoin(labeling_tasks, mine)
        .where(given.c.purpose != Purpose.ADOPTED)  # nobody here asked or pays for it
        .order_by(given.c.updated_at.desc(), given.c.id.desc())
        .limit(limit)
    )
    return [_work(row) for row in connection.execute(query)][::-1]


def annotator_labels(connection: Connection, sample_ids: Sequence[str]) -> dict[str, float]:
    """The reliability of each sample's label, of those that annotators gave and that stand."""
    newest = newest_labels(connection, sample_ids)
    return {
        key: label.reliability
        for key, label in newest.items()
        if label.answer is not None and label.source == ANNOTATORS
    }


def _work(row: Row[Any]) -> Work:
    campaign = (row.labeling_task or "").partition("/")[0]
    is_given = not row.skipped and row.deleted_at is None
    return from_row(
        Work,
        row,
        campaign=int(campaign) if campaign.isdecimal() else row.campaign,
        is_given=is_given,
        is_answer=is_given and row.refused is None,
    )


class Cut(NamedTuple):
    """When an annotation was left open, and what it counts then."""

    above: float
    """seconds"""
    counts: float
    """seconds"""


class Spent(NamedTuple):
    """What one person did since a time."""

    annotator: str
    num_annotations: int
    num_timed: int
    """of these, with a lead time"""
    seconds: float
    """of those together, what was left open cut"""


def spent_since(
    connection: Connection, since: datetime, cuts: Mapping[str, Cut], cut: Cut | None
) -> list[Spent]:
    """What each annotator did since a time, by name.

    Args:
        connection: to the ledger.
        since: an annotation counts with its last change.
        cuts: person -> when their annotations were left open.
        cut: the same of everyone else; None is never.
    """
    query = (
        select(
            given.c.annotator,
            func.count().label("num_annotations"),
            func.count(given.c.lead_time_seconds).label("num_timed"),
            func.coalesce(func.sum(_counted(given.c.lead_time_seconds, cuts, cut)), 0.0).label(
                "seconds"
            ),
        )
        .where(given.c.updated_at >= since)
        .group_by(given.c.annotator)
        .order_by(given.c.annotator)
    )
    return [from_row(Spent, row, seconds=float(row.seconds)) for row in connection.execute(query)]


def _counted(
    seconds: ColumnElement[Any], cuts: Mapping[str, Cut], cut: Cut | None
) -> ColumnElement[Any]:
    """The lead time, unless it was left open; no clock runs backwards."""
    if not cuts and cut is None:
        return case((seconds < 0, 0.0), else_=seconds)
    above = _of_person({name: one.above for name, one in cuts.items()}, cut and cut.above)
    counts = _of_person({name: one.counts for name, one in cuts.items()}, cut and cut.counts)
    return case((seconds < 0, 0.0), (seconds > above, counts), else_=seconds)


def _of_person(values: dict[str, float], other: float | None) -> Any:
    """Nothing is above what is unknown."""
    return case(values, value=given.c.annotator, else_=other) if values else other
