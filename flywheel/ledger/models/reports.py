"""Every report, whole.

Adding one twice changes nothing. A night that was run again may have two: the later one counts.
"""

from __future__ import annotations

from sqlalchemy import Connection, insert, select

from flywheel.errors import UnknownIdError
from flywheel.ledger.codec import from_json, to_json
from flywheel.ledger.tables import reports
from flywheel.records import Report


def add_report(connection: Connection, report: Report) -> None:
    """Store a report, once for each id."""
    if connection.execute(select(reports.c.id).where(reports.c.id == report.id)).first() is None:
        row = {
            "id": report.id,
            "night": report.night,
            "record": to_json(report),
            "created_at": report.created_at,
        }
        connection.execute(insert(reports).values(row))


def get_report(connection: Connection, report_id: str) -> Report:
    """The report of an id.

    Raises:
        UnknownIdError: there is none.
    """
    query = select(reports.c.record).where(reports.c.id == report_id)
    record = connection.execute(query).scalar()
    if record is None:
        raise UnknownIdError(
            f"the ledger holds no report {report_id}; flywheel report NIGHT shows a night's report"
        )
    return from_json(Report, record)


def report_of_night(connection: Connection, night: int) -> Report | None:
    """The report of a night; None when it has none."""
    query = select(reports.c.record).where(reports.c.night == night)
    record = connection.execute(query.order_by(reports.c.seq.desc()).limit(1)).scalar()
    return None if record is None else from_json(Report, record)
