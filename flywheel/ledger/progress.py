"""Progress of labeling in numbers: labeling tasks, queue, campaigns, agreement, gold answers.

Every function is one or two counting statements; no payload and no picture is read.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple

from sqlalchemy import Connection, case, func, select

from flywheel.ledger import tables
from flywheel.ledger.annotations import STANDS, newest_labels, newest_of_each
from flywheel.ledger.codec import from_row
from flywheel.ledger.requests import REFUSED
from flywheel.ledger.tables import annotations as given
from flywheel.ledger.tables import choices, labeling_tasks, labels, samples
from flywheel.records import ANNOTATORS, Json, Purpose, Share, Split

_STATES = ("waiting", "sent", "done", "refused", "withdrawn")


@dataclass(frozen=True, kw_only=True, slots=True)
class AnnotatorCount:
    """What one person did so far."""

    annotator: str
    num_answers: int
    num_skipped: int
    num_refused: int
    """annotations that are no answers of the task"""
    mean_lead_time_seconds: float | None
    """None when it was never measured"""


@dataclass(frozen=True, kw_only=True, slots=True)
class Agreement:
    """How much annotators agree, over the labels that at least two annotators gave."""

    mean_reliability: float
    """0..1, the mean chance of these labels to be right"""
    num_labels: int


def count_labeling(connection: Connection) -> dict[str, int]:
    """How many labeling tasks are waiting, sent, done, refused and withdrawn."""
    state = labeling_tasks.c.state
    query = select(state, func.count().label("number")).group_by(state)
    counts = {row.state: int(row.number) for row in connection.execute(query)}
    return {state: counts.get(state, 0) for state in _STATES}


def count_annotators(connection: Connection) -> list[AnnotatorCount]:
    """What each person did so far, the busiest first; deleted annotations do not count."""
    table = tables.annotations.c
    is_refused = table.refused.is_not(None)
    is_answer = table.skipped.is_(False) & ~is_refused
    num_answers = func.sum(case((is_answer, 1), else_=0))
    query = (
        select(
            table.annotator,
            num_answers.label("num_answers"),
            func.sum(case((table.skipped, 1), else_=0)).label("num_skipped"),
            func.sum(case((is_refused, 1), else_=0)).label("num_refused"),
            func.avg(table.lead_time_seconds).label("mean_lead_time_seconds"),
        )
        .where(table.deleted_at.is_(None))
        .group_by(table.annotator)
        .order_by(num_answers.desc(), table.annotator)
    )
    return [from_row(AnnotatorCount, row) for row in connection.execute(query)]


def count_labels_since(connection: Connection, moment: datetime | None) -> int:
    """Samples not drawn to test whose label, given by annotators, is newer than a moment."""
    stands = (
        labels.c.seq.in_(newest_of_each()),
        labels.c.answer.is_not(None),
        labels.c.source == ANNOTATORS,
        samples.c.split == Split.TRAIN,
        func.coalesce(choices.c.share, "") != Share.PROBABILITY,
    )
    of = labels.join(samples).outerjoin(choices, choices.c.sample_id == labels.c.sample_id)
    query = select(func.count()).select_from(of).where(*stands)
    if moment is not None:
        query = query.where(labels.c.created_at > moment)
    return int(connection.execute(query).scalar_one())


def measure_agreement(connection: Connection) -> Agreement | None:
    """The agreement over all labels that stand; None when no label is of two annotators or more."""
    query = select(func.avg(labels.c.reliability), func.count()).where(
        labels.c.seq.in_(newest_of_each()),
        labels.c.answer.is_not(None),
        labels.c.num_annotations >= 2,
    )
    mean, number = connection.execute(query).one()
    if not number:
        return None
    return Agreement(mean_reliability=float(mean), num_labels=int(number))


_OPEN = ("waiting", "sent")


class Queue(NamedTuple):
    """What annotators are still to look at."""

    num_waiting: int
    """labeling tasks that are not sent yet"""
    num_sent: int
    """that are with annotators"""
    oldest: datetime | None
    """when the one was chosen that has waited longest"""
    priority: float | None
    """of that one, 0..1, without ageing"""


class RefusedCount(NamedTuple):
    """Annotations that are no answers of the task, and what became of their samples."""

    num_refused: int
    """annotations"""
    num_again: int
    """annotators asked in their place"""
    num_set_aside: int
    """labeling tasks that ended without a usable answer"""


class GoldAnswer(NamedTuple):
    """An annotator's answer on a sample whose answer is known."""

    annotator: str
    answer: Json
    known: Json


def count_refused(connection: Connection) -> RefusedCount:
    """How many annotations were refused, asked again, and set aside after all."""
    table = tables.annotations.c
    queries = (
        select(func.count()).where(table.refused.is_not(None), table.deleted_at.is_(None)),
        select(func.count()).where(tables.requests.c.reason == REFUSED),
        select(func.count()).where(labeling_tasks.c.state == "refused"),
    )
    return RefusedCount(*(int(connection.execute(query).scalar_one()) for query in queries))


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
        .where(table.purpose == Purpose.REVIEW)
        .group_by(table.state)
    )
    return {row.state: int(row.number) for row in connection.execute(query)}


def gold_answers(connection: Connection, limit: int) -> list[GoldAnswer]:
    """The newest answers on gold samples whose label still stands."""
    query = (
        select(given.c.annotator, given.c.sample_id, given.c.answer)
        .where(given.c.purpose == Purpose.GOLD, *STANDS)
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
