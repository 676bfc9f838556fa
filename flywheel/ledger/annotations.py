"""Annotations as the annotators left them, and which of them the consensus has not read yet.

An annotation that vanished keeps its row, with the time at which that was noticed. The file also reads
what annotators answered next to what the model had said, and whether they saw it. Annotations of a
project in Label Studio that is not ours count too: `adopted` says which samples they are about.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple

from sqlalchemy import (
    ColumnElement,
    Connection,
    Row,
    Select,
    and_,
    case,
    delete,
    exists,
    func,
    insert,
    or_,
    select,
    update,
)

from flywheel.ledger.codec import from_row, to_row
from flywheel.ledger.dialects import in_parts
from flywheel.ledger.tables import adopted, choices, labeling_tasks, labels, predictions
from flywheel.ledger.tables import annotations as table
from flywheel.records import IMPORTED, Annotation, Json, Label, Purpose

STANDS = (table.c.deleted_at.is_(None), table.c.refused.is_(None), table.c.skipped.is_(False))
"""conditions on annotations that are answers: not deleted, not refused, not skipped"""


@dataclass(frozen=True, kw_only=True, slots=True)
class Returned:
    """An annotation, and the reason if it is not an answer of the task."""

    annotation: Annotation
    refused: str | None
    labeling_task: str
    """campaign/external id of the one that it is on"""


@dataclass(frozen=True, kw_only=True, slots=True)
class Changes:
    """Which annotations of some samples were not stored like this before."""

    saved: tuple[Returned, ...]
    """new, or changed at another time than what was stored"""
    num_deleted: int
    """stored, and not there any more"""


def save_annotations(
    connection: Connection,
    by_task: Mapping[str, tuple[str, Purpose, Sequence[Returned]]],
    now: datetime,
    *,
    only_later: bool = True,
    keeps: bool = False,
) -> Changes:
    """Store all that each of these labeling tasks has now; what it has no longer is deleted.

    Args:
        connection: to the ledger.
        by_task: campaign/external id of a labeling task -> its sample, its purpose and its
            annotations. The purpose distinguishes it from another one that had this number before.
        now: when this was read.
        only_later: whether an annotation replaces what was stored of it only if it was changed
            later, which is right for what was read some time ago. Otherwise if it was changed at
            any other time: the server's clock may have been set back.
        keeps: what a labeling task has no longer stays all the same.
    """
    stored = _stored(connection, list({sample_id for sample_id, _, _ in by_task.values()}))
    saved, deleted = list[Returned](), list[str]()
    for labeling_task, (sample_id, purpose, returned) in by_task.items():
        known = {
            key: row for key, row in stored.get(sample_id, {}).items() if row.purpose == purpose
        }
        saved += [
            item
            for item in returned
            if _is_news(item, known.get(item.annotation.id), only_later=only_later)
        ]
        present = {item.annotation.id for item in returned}
        gone = [
            key
            for key, row in known.items()
            if row.labeling_task == labeling_task and key not in present and not row.deleted_at
        ]
        deleted += [] if keeps else gone
        _move(connection, labeling_task, [known[key] for key in present & known.keys()])
    known_ids = {key for rows in stored.values() for key in rows}
    for item in saved:
        _save(connection, item, item.annotation.id in known_ids)
    for key in deleted:
        values = {"deleted_at": now, "settled": False}
        connection.execute(update(table).where(table.c.id == key).values(values))
    return Changes(saved=tuple(saved), num_deleted=len(deleted))


def drop_annotations(connection: Connection, places: Iterable[str]) -> None:
    """Forget the annotations at places whose labeling tasks are about other samples now.

    The labels that they made stay, since their answers were about the samples of then.
    """
    for name in places:
        connection.execute(delete(table).where(table.c.labeling_task == name))


def unsettled_samples(connection: Connection) -> dict[str, bool]:
    """The samples whose annotations changed since the consensus last looked.

    True where one may make a label; those on gold samples only measure annotators.
    """
    makes_label = case((table.c.purpose != Purpose.GOLD, 1), else_=0)
    query = (
        select(table.c.sample_id, func.max(makes_label).label("makes_label"))
        .where(table.c.settled.is_(False))
        .group_by(table.c.sample_id)
        .order_by(table.c.sample_id)
    )
    return {row.sample_id: bool(row.makes_label) for row in connection.execute(query)}


def settle(connection: Connection, sample_ids: Sequence[str]) -> None:
    """The consensus has taken in all annotations of these samples."""
    for part in in_parts(sample_ids):
        mine = table.c.sample_id.in_(part)
        connection.execute(update(table).where(mine).values(settled=True))


def annotations_of(connection: Connection, sample_ids: Sequence[str]) -> list[Annotation]:
    """The answers that stand, oldest first: not deleted, not refused, not skipped, not on gold."""
    query = select(table).where(*STANDS, table.c.purpose != Purpose.GOLD)
    query = query.order_by(table.c.updated_at, table.c.id)
    return [
        from_row(Annotation, row)
        for part in in_parts(sample_ids)
        for row in connection.execute(query.where(table.c.sample_id.in_(part)))
    ]


def newest_labels(connection: Connection, sample_ids: Sequence[str]) -> dict[str, Label]:
    """The newest label of each sample that has one; its answer is None when it was withdrawn."""
    found: dict[str, Label] = {}
    for part in in_parts(sample_ids):
        newest = newest_of_each(labels.c.sample_id.in_(part))
        for row in connection.execute(select(labels).where(labels.c.seq.in_(newest))):
            found[row.sample_id] = from_row(Label, row)
    return found


def newest_of_each(*conditions: ColumnElement[bool]) -> Select[Any]:
    """The `seq` of each sample's newest label."""
    return select(func.max(labels.c.seq)).where(*conditions).group_by(labels.c.sample_id)


def _stored(connection: Connection, sample_ids: Sequence[str]) -> dict[str, dict[str, Row[Any]]]:
    found: dict[str, dict[str, Row[Any]]] = {}
    for part in in_parts(sample_ids):
        for row in connection.execute(select(table).where(table.c.sample_id.in_(part))):
            found.setdefault(row.sample_id, {})[row.id] = row
    return found


def _move(connection: Connection, labeling_task: str, known: Sequence[Row[Any]]) -> None:
    """Note that annotations are on this labeling task, which was thought to be gone."""
    for row in known:
        if row.labeling_task != labeling_task:
            mine = table.c.id == row.id
            connection.execute(update(table).where(mine).values(labeling_task=labeling_task))


def _is_news(item: Returned, known: Row[Any] | None, *, only_later: bool) -> bool:
    if known is None or known.deleted_at is not None:
        return True
    if known.refused is not None and item.refused is None:
        return True  # the task reads it by now
    at, before = item.annotation.updated_at, known.updated_at
    return bool(at > before if only_later else at != before)


def _save(connection: Connection, item: Returned, is_known: bool) -> None:
    annotation = item.annotation
    here = {"labeling_task": item.labeling_task, "refused": item.refused}
    values = to_row(table, annotation, **here, deleted_at=None, settled=False)
    if is_known:
        connection.execute(update(table).where(table.c.id == annotation.id).values(values))
    else:
        connection.execute(insert(table), values)


class Look(NamedTuple):
    """One person's answer on a chosen sample."""

    sample_id: str
    annotator: str
    answer: Json
    model_answer: Json
    """logged, when the sample was chosen"""
    shown: bool
    """whether the person was shown it; drawn by chance"""


def recent_looks(connection: Connection, limit: int) -> list[Look]:
    """The newest answers that stand on samples that were chosen, oldest first."""
    asked = labeling_tasks.c
    mine = and_(asked.sample_id == table.c.sample_id, asked.purpose == table.c.purpose)
    said = predictions.c.answer.label("model_answer")
    query = (
        select(table.c.sample_id, table.c.annotator, table.c.answer, said, asked.shown)
        .join(labeling_tasks, mine)
        .join(choices, choices.c.sample_id == table.c.sample_id)
        .join(predictions, predictions.c.id == choices.c.prediction_id)
        .where(table.c.purpose == Purpose.CHOICE, *STANDS)
        .order_by(table.c.updated_at.desc(), table.c.id.desc())
        .limit(limit)
    )
    return [from_row(Look, row) for row in connection.execute(query)][::-1]


class Adopted(NamedTuple):
    """A labeling task of another project."""

    external_id: int
    sample_id: str
    data_digest: str
    """of its data as they were when the sample was read"""


def adopted_tasks(connection: Connection, project: int) -> dict[int, Adopted]:
    """The labeling tasks of a project whose samples are known, by external id."""
    rows = connection.execute(select(adopted).where(adopted.c.project == project))
    return {row.external_id: from_row(Adopted, row) for row in rows}


def add_adopted(connection: Connection, project: int, new: Iterable[Adopted]) -> None:
    """Store which samples labeling tasks are about; the newest counts."""
    rows = [{"project": project, **one._asdict()} for one in new]
    for row in rows:
        mine = (adopted.c.project == project, adopted.c.external_id == row["external_id"])
        connection.execute(delete(adopted).where(*mine))
    if rows:
        connection.execute(insert(adopted), rows)


def is_brought(sample_id: ColumnElement[str]) -> ColumnElement[bool]:
    """The condition that a sample came with its label, or is asked about in another project.

    What annotators say about a sample of the start data changes nothing.
    """
    came = labels.c.source.in_(("start", IMPORTED))
    return or_(
        exists().where(labels.c.sample_id == sample_id, came),
        exists().where(adopted.c.sample_id == sample_id),
    )
