"""One sample's rows in every table, and what was made with it.

Everything is looked up by an index on the sample. What trained or was decided with a dataset
version is read from the tables of checkpoints and decisions, which grow by one row a night.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any, NamedTuple

from sqlalchemy import Connection, Row, Select, func, select

from flywheel.ledger import tables
from flywheel.ledger.tables import (
    batches,
    campaigns,
    checkpoints,
    choices,
    dataset_versions,
    decisions,
    failures,
    feedback,
    labeling_tasks,
    labels,
    predictions,
    releases,
    reports,
    samples,
    transitions,
)

_Rows = Sequence[Row[Any]]


class Life(NamedTuple):
    """The rows of one sample, each table's in the order of time."""

    sample: Row[Any]
    predictions: _Rows
    feedback: _Rows
    failure: Row[Any] | None
    transitions: _Rows
    choice: Row[Any] | None
    """with population, night and created_at of its batch"""
    labeling_tasks: _Rows
    """with the external_project of their campaigns"""
    annotations: _Rows
    labels: _Rows


class Uses(NamedTuple):
    """What was made with some dataset versions."""

    checkpoints: _Rows
    decisions: _Rows
    """with dataset_id and candidate_digest of their reports"""
    releases: _Rows
    """of these checkpoints"""


def read_life(connection: Connection, sample_id: str) -> Life:
    """All rows about one sample."""
    sample = connection.execute(select(samples).where(samples.c.id == sample_id)).one()
    said_back = (
        select(feedback)
        .join(predictions, predictions.c.id == feedback.c.prediction_id)
        .where(predictions.c.sample_id == sample_id)
        .order_by(feedback.c.seq)
    )
    chosen = (
        select(choices, batches.c.population, batches.c.night, batches.c.created_at)
        .join(batches, batches.c.id == choices.c.batch_id)
        .where(choices.c.sample_id == sample_id)
    )
    posted = (
        select(labeling_tasks, campaigns.c.external_project)
        .outerjoin(campaigns, campaigns.c.id == labeling_tasks.c.campaign)
        .where(labeling_tasks.c.sample_id == sample_id)
    )
    return Life(
        sample=sample,
        predictions=_all(connection, _of(predictions, sample_id).order_by("seq")),
        feedback=_all(connection, said_back),
        failure=connection.execute(_of(failures, sample_id)).first(),
        transitions=_all(connection, _of(transitions, sample_id).order_by("seq")),
        choice=connection.execute(chosen).first(),
        labeling_tasks=_all(connection, posted.order_by(labeling_tasks.c.seq)),
        annotations=_all(
            connection, _of(tables.annotations, sample_id).order_by("updated_at", "id")
        ),
        labels=_all(connection, _of(labels, sample_id).order_by("seq")),
    )


def versions_since(connection: Connection, start: datetime) -> _Rows:
    """The dataset versions that were newest at a time or later, newest first: id and created_at.

    A version that labels went back to is among them, with the time at which it was first made.
    """
    table = dataset_versions.c
    first = select(func.min(table.seq)).where(table.created_at >= start).scalar_subquery()
    query = select(table.id, table.created_at).where(table.seq >= first)
    return _all(connection, query.order_by(table.seq.desc()))


def uses_of(connection: Connection, trained: set[str], tested: set[str]) -> Uses:
    """Checkpoints trained on some versions, their releases, and decisions on them or `tested`."""
    dataset = checkpoints.c.record["dataset_id"].as_string()
    made = select(checkpoints.c.digest, checkpoints.c.created_at, dataset.label("dataset_id"))
    learned = [
        row for row in _all(connection, made.order_by("created_at")) if row.dataset_id in trained
    ]
    digests = {row.digest for row in learned}
    judged = (
        select(
            decisions,
            reports.c.record["dataset_id"].as_string().label("dataset_id"),
            reports.c.record["candidate_digest"].as_string().label("candidate_digest"),
        )
        .join(reports, reports.c.id == decisions.c.report_id)
        .order_by(decisions.c.seq)
    )
    return Uses(
        checkpoints=learned,
        decisions=[
            row
            for row in _all(connection, judged)
            if row.candidate_digest in digests or row.dataset_id in tested
        ],
        releases=[
            row
            for row in _all(connection, select(releases).order_by(releases.c.number))
            if row.checkpoint_digest in digests
        ],
    )


def _of(table: Any, sample_id: str) -> Select[Any]:
    return select(table).where(table.c.sample_id == sample_id)


def _all(connection: Connection, query: Select[Any]) -> _Rows:
    return connection.execute(query).all()
