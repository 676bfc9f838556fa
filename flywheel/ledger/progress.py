"""How far labeling has come: labeling tasks, people and their agreement, in numbers.

Every function is one or two counting statements; no payload and no picture is read.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, case, func, select

from flywheel.ledger import tables
from flywheel.ledger.tables import labeling_tasks, labels, samples
from flywheel.records import PEOPLE, Split

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
    """How much people agree, over the labels that at least two people gave."""

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
            func.avg(table.lead_time_seconds).label("seconds"),
        )
        .where(table.deleted_at.is_(None))
        .group_by(table.annotator)
        .order_by(num_answers.desc(), table.annotator)
    )
    return [
        AnnotatorCount(
            annotator=row.annotator,
            num_answers=int(row.num_answers),
            num_skipped=int(row.num_skipped),
            num_refused=int(row.num_refused),
            mean_lead_time_seconds=None if row.seconds is None else float(row.seconds),
        )
        for row in connection.execute(query)
    ]


def count_labels_since(connection: Connection, moment: datetime | None) -> int:
    """Samples of the training side whose label, given by people, is newer than a moment."""
    newest = select(func.max(labels.c.seq)).group_by(labels.c.sample_id)
    stands = (
        labels.c.seq.in_(newest),
        labels.c.answer.is_not(None),
        labels.c.source == PEOPLE,
        samples.c.split == Split.TRAIN.value,
    )
    query = select(func.count()).select_from(labels.join(samples)).where(*stands)
    if moment is not None:
        query = query.where(labels.c.created_at > moment)
    return int(connection.execute(query).scalar_one())


def measure_agreement(connection: Connection) -> Agreement | None:
    """The agreement over all labels that stand; None when no label is of two people or more."""
    newest = select(func.max(labels.c.seq)).group_by(labels.c.sample_id)
    query = select(func.avg(labels.c.reliability), func.count()).where(
        labels.c.seq.in_(newest), labels.c.answer.is_not(None), labels.c.num_annotations >= 2
    )
    mean, number = connection.execute(query).one()
    if not number:
        return None
    return Agreement(mean_reliability=float(mean), num_labels=int(number))
