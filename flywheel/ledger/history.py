"""History: reports and decisions of all nights, the lineage of dataset versions and of one sample.

Reads are bounded by what is asked for, however many nights there were: a row a night or a failure.
A sample is looked up by an index in every table; what trained on a version, or was decided with it,
comes from the tables of checkpoints and decisions, which grow by one row a night.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple

from sqlalchemy import Connection, Row, Select, func, select

from flywheel.errors import UnknownIdError
from flywheel.ledger import tables
from flywheel.ledger.codec import from_json, from_row
from flywheel.ledger.datasets import get_version
from flywheel.ledger.judged import read_decision
from flywheel.ledger.serving_tables import checkpoints, releases
from flywheel.ledger.tables import (
    batches,
    campaigns,
    choices,
    dataset_versions,
    decisions,
    failures,
    feedback,
    labeling_tasks,
    labels,
    nights,
    predictions,
    reports,
    samples,
    steps,
    transitions,
)
from flywheel.records import DatasetVersion, Decision, FailureState, Json, Night, Report


def get_night(connection: Connection, number: int) -> Night:
    """A night by its number.

    Raises:
        UnknownIdError: there was none.
    """
    row = connection.execute(select(nights).where(nights.c.number == number)).first()
    if row is None:
        last = connection.execute(select(func.max(nights.c.number))).scalar()
        known = (
            "there was none yet; flywheel night runs the first" if last is None else f"1..{last}"
        )
        raise UnknownIdError(f"no night {number} in the ledger; nights: {known}")
    return from_row(Night, row)


def reported_nights(connection: Connection, upto: int) -> list[int]:
    """The numbers of all nights with a report, up to and with one, oldest first."""
    column = reports.c.night
    query = select(column).where(column <= upto).distinct().order_by(column)
    return list(connection.execute(query).scalars())


def reports_of(connection: Connection, numbers: Sequence[int]) -> list[Report]:
    """The last report of each of these nights, oldest first."""
    newest = select(func.max(reports.c.seq)).where(reports.c.night.in_(numbers))
    query = select(reports.c.record).where(reports.c.seq.in_(newest.group_by(reports.c.night)))
    records = connection.execute(query.order_by(reports.c.night)).scalars()
    return [from_json(Report, record) for record in records]


def decisions_of(
    connection: Connection, numbers: Sequence[int], *, by_gate: bool = False
) -> dict[int, Decision]:
    """The last decision of each of these nights; `by_gate` passes over what persons decided."""
    query = select(decisions).where(decisions.c.night.in_(numbers)).order_by(decisions.c.seq)
    if by_gate:
        query = query.where(decisions.c.overrides.is_(None))
    return {row.night: read_decision(row) for row in connection.execute(query)}


def ancestry(connection: Connection, version_id: str, limit: int) -> list[DatasetVersion]:
    """A dataset version and its parents, newest first."""
    line: list[DatasetVersion] = []
    current: str | None = version_id
    while current is not None and len(line) < limit:
        line.append(get_version(connection, current))
        current = line[-1].parent_id
    return line


class Wait(NamedTuple):
    """A failure from where its time counts."""

    since: datetime
    until: datetime | None
    """when a model served that answers it right; None: not yet"""


def night_starts(connection: Connection) -> list[tuple[int, datetime]]:
    """Every night and when it began, oldest first."""
    query = select(nights.c.number, nights.c.started_at).order_by(nights.c.number)
    return [(int(row.number), row.started_at) for row in connection.execute(query)]


def results_of(connection: Connection, step: str) -> dict[int, Json]:
    """Night -> the stored result of a step, oldest first."""
    query = select(steps.c.night, steps.c.result).where(steps.c.name == step)
    rows = connection.execute(query.order_by(steps.c.night))
    return {int(row.night): row.result for row in rows}


def moves_by_night(connection: Connection) -> dict[int, dict[FailureState, int]]:
    """Night -> the number of failures that reached each state in it; changes between nights are missing."""
    query = (
        select(transitions.c.night, transitions.c.state, func.count().label("number"))
        .where(transitions.c.night.is_not(None))
        .group_by(transitions.c.night, transitions.c.state)
        .order_by(transitions.c.night)
    )
    found: dict[int, dict[FailureState, int]] = {}
    for row in connection.execute(query):
        found.setdefault(int(row.night), {})[row.state] = int(row.number)
    return found


def waits(
    connection: Connection, start: FailureState, since_night: int, limit: int
) -> Mapping[str, Wait]:
    """Sample -> its wait, of the newest failures that reached a state since a night."""
    began = _times(connection, start, since_night, limit)
    fixed = _times(connection, FailureState.FIXED, since_night, None)
    return {key: Wait(at, fixed.get(key)) for key, at in began.items()}


def newest_failures(connection: Connection, limit: int) -> dict[str, FailureState]:
    """Sample -> state that it has now, of the failures that were seen last."""
    seen = (
        select(transitions.c.sample_id)
        .where(transitions.c.state == FailureState.SEEN)
        .order_by(transitions.c.seq.desc())
        .limit(limit)
        .subquery()
    )
    query = select(failures.c.sample_id, failures.c.state).join(
        seen, seen.c.sample_id == failures.c.sample_id
    )
    return {row.sample_id: row.state for row in connection.execute(query)}


def _times(
    connection: Connection, state: FailureState, since_night: int, limit: int | None
) -> dict[str, datetime]:
    """When samples first reached a state, of its newest transitions."""
    query = (
        select(transitions.c.sample_id, transitions.c.at)
        .where(transitions.c.night >= since_night, transitions.c.state == state)
        .order_by(transitions.c.seq.desc())
        .limit(limit)
    )
    return {row.sample_id: row.at for row in connection.execute(query)}


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
