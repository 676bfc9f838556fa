"""All nights so far: their reports and decisions, and the line of dataset versions.

What is read is bounded by what is asked for, however many nights there were.
"""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import Connection, func, select

from flywheel.errors import UnknownIdError
from flywheel.ledger.codec import from_json
from flywheel.ledger.datasets import get_version
from flywheel.ledger.models.decisions import read_decision
from flywheel.ledger.nights import read_night
from flywheel.ledger.tables import decisions, nights, reports
from flywheel.records import DatasetVersion, Decision, Night, Report


def get_night(connection: Connection, number: int) -> Night:
    """A night by its number.

    Raises:
        UnknownIdError: there was none.
    """
    row = connection.execute(select(nights).where(nights.c.number == number)).first()
    if row is None:
        last = connection.execute(select(func.max(nights.c.number))).scalar()
        known = (
            "there was none yet; flywheel night runs the first" if last is None else f"0..{last}"
        )
        raise UnknownIdError(f"no night {number} in the ledger; nights: {known}")
    return read_night(row)


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
    return {row["night"]: read_decision(row) for row in connection.execute(query).mappings()}


def ancestry(connection: Connection, version_id: str, limit: int) -> list[DatasetVersion]:
    """A dataset version and its parents, newest first."""
    line: list[DatasetVersion] = []
    current: str | None = version_id
    while current is not None and len(line) < limit:
        line.append(get_version(connection, current))
        current = line[-1].parent_id
    return line
