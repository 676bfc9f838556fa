"""Reports: every report as it was written, and those rescored under another metric.

Adding one twice changes nothing. A night that was run again may have two; the later one counts.
Rescored reports stand beside the originals, on which the decisions were made.
"""

from __future__ import annotations

from sqlalchemy import Connection, insert, select

from flywheel.errors import UnknownIdError
from flywheel.ledger.codec import from_json, to_json
from flywheel.ledger.tables import reports, rescored
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
        UnknownIdError: it is not in the ledger.
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


def add_rescored(connection: Connection, report_id: str, report: Report) -> None:
    """Store what a report is under another metric, once for each metric."""
    same = (rescored.c.report_id == report_id, rescored.c.metric_id == report.metric_id)
    if connection.execute(select(rescored.c.report_id).where(*same)).first() is None:
        row = {"report_id": report_id, "metric_id": report.metric_id, "record": to_json(report)}
        connection.execute(insert(rescored).values(row))


def rescored_reports(connection: Connection, metric_id: str) -> dict[int, Report]:
    """Night -> its report under a metric, of all nights that were measured anew under it."""
    query = (
        select(rescored.c.record)
        .join(reports, reports.c.id == rescored.c.report_id)
        .where(rescored.c.metric_id == metric_id)
        .order_by(reports.c.seq)
    )
    found = (from_json(Report, record) for record in connection.execute(query).scalars())
    return {report.night: report for report in found}
