"""Reports measured anew under another metric, beside the originals that decisions were made on."""

from __future__ import annotations

from sqlalchemy import Connection, insert, select

from flywheel.ledger.codec import from_json, to_json
from flywheel.ledger.tables import reports, rescored
from flywheel.records import Report


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
