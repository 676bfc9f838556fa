"""The outbox to Label Studio: which samples wait to be sent, are with people, or came to an end.

A row is written with the choice, long before anything is sent; it knows no HTTP.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import NamedTuple

from sqlalchemy import Connection, bindparam, func, select, update

from flywheel.ledger.nights import add_skip, current_night_number
from flywheel.ledger.tables import choices, labeling_tasks, predictions
from flywheel.records import Json, Share

_CHUNK = 500  # ids in one IN (...): both databases limit the parameters of a statement


class Waiting(NamedTuple):
    """A sample that waits to be sent, with what the model said and why it was chosen."""

    sample_id: str
    answer: Json
    confidence: float
    model_digest: str
    reason: str
    priority: float
    share: Share
    inclusion_probability: float | None


class Posted(NamedTuple):
    """Where a sample's labeling task is."""

    external_project: int | None
    """None, as the id: not sent yet, or sent without our knowing"""
    external_id: int | None
    state: str


def waiting(connection: Connection) -> list[Waiting]:
    """What is to be sent, the hardest first."""
    query = (
        select(
            labeling_tasks.c.sample_id,
            predictions.c.answer,
            predictions.c.confidence,
            predictions.c.model_digest,
            choices.c.reason,
            choices.c.priority,
            choices.c.share,
            choices.c.inclusion_probability,
        )
        .join(choices, choices.c.sample_id == labeling_tasks.c.sample_id)
        .join(predictions, predictions.c.id == choices.c.prediction_id)
        .where(labeling_tasks.c.state == "waiting")
        .order_by(choices.c.priority.desc(), labeling_tasks.c.sample_id)
    )
    return [
        Waiting._make((*row[:6], Share(row.share), row.inclusion_probability))
        for row in connection.execute(query)
    ]


def mark_sent(
    connection: Connection, project_id: int, external_ids: Mapping[str, int], now: datetime
) -> None:
    """Record under which external ids samples that waited were sent; others stay as they are."""
    known = posted(connection, list(external_ids))
    new = {key: value for key, value in external_ids.items() if known[key].state == "waiting"}
    values = {"external_project": project_id, "state": "sent", "sent_at": now}
    _update(connection, {**values, "external_id": bindparam("external")}, new)


def num_sent_since(connection: Connection, since: datetime) -> int:
    """How many samples were sent since a time."""
    mine = labeling_tasks.c.sent_at >= since
    return connection.execute(select(func.count()).where(mine)).scalar_one()


def set_aside(connection: Connection, notes: Mapping[str, str], now: datetime) -> None:
    """Take samples out of labeling for good, each with its reason, and note it as a skip."""
    short = {sample_id: note[:500] for sample_id, note in notes.items()}
    _update(connection, {"state": "refused", "note": bindparam("external")}, short)
    night = current_night_number(connection)
    for sample_id, note in short.items():
        add_skip(connection, f"sample {sample_id}", note, night, now)


def mark_finished(connection: Connection, is_finished: Mapping[str, bool]) -> None:
    """Record which sent samples have all the annotations that were asked for, or no longer."""
    states = {key: "done" if value else "sent" for key, value in is_finished.items()}
    _update(connection, {"state": bindparam("external")}, states)


def posted(connection: Connection, sample_ids: Sequence[str]) -> dict[str, Posted]:
    """Where the labeling tasks of these samples are; those never chosen are missing."""
    columns = (labeling_tasks.c.external_project, labeling_tasks.c.external_id)
    found: dict[str, Posted] = {}
    for start in range(0, len(sample_ids), _CHUNK):
        query = select(labeling_tasks.c.sample_id, *columns, labeling_tasks.c.state).where(
            labeling_tasks.c.sample_id.in_(sample_ids[start : start + _CHUNK])
        )
        found.update((row[0], Posted(*row[1:])) for row in connection.execute(query))
    return found


def projects_used(connection: Connection) -> list[int]:
    """The external projects that anything was ever sent to."""
    column = labeling_tasks.c.external_project
    query = select(column).where(column.is_not(None)).distinct().order_by(column)
    return list(connection.execute(query).scalars())


def open_samples(connection: Connection, project_id: int) -> list[str]:
    """The samples that are with people in an external project."""
    query = select(labeling_tasks.c.sample_id).where(
        labeling_tasks.c.state == "sent", labeling_tasks.c.external_project == project_id
    )
    return list(connection.execute(query).scalars())


def _update(
    connection: Connection, values: Mapping[str, object], external: Mapping[str, object]
) -> None:
    """Set columns of many rows; `external` is the value that differs from row to row."""
    if not external:
        return
    statement = update(labeling_tasks).where(labeling_tasks.c.sample_id == bindparam("sample"))
    rows = [{"sample": key, "external": value} for key, value in external.items()]
    connection.execute(statement.values(values), rows)
