"""Every decision, with all its reasons, in the order in which they were made.

Adding one twice changes nothing. A night that was run again may have two: the later one counts.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection, RowMapping, Select, insert, select

from flywheel.errors import UnknownIdError
from flywheel.ledger.tables import decisions, reports
from flywheel.records import Decision, Verdict


def add_decision(connection: Connection, decision: Decision) -> None:
    """Store a decision, once for each id; its report must be there."""
    known = select(decisions.c.id).where(decisions.c.id == decision.id)
    if connection.execute(known).first() is None:
        row = {
            "id": decision.id,
            "night": decision.night,
            "report_id": decision.report_id,
            "verdict": decision.verdict.value,
            "reasons": list(decision.reasons),
            "e_value": decision.e_value,
            "needed_e_value": decision.needed_e_value,
            "closes_challenge": decision.closes_challenge,
            "gate_settings": decision.gate_settings,
            "overrides": decision.overrides,
            "created_at": decision.created_at,
        }
        connection.execute(insert(decisions).values(row))


def get_decision(connection: Connection, night: int) -> Decision | None:
    """The decision of a night; None when it has none."""
    return _last(connection, select(decisions).where(decisions.c.night == night))


def find_decision(connection: Connection, start: str) -> Decision:
    """The one decision whose id begins so.

    Raises:
        UnknownIdError: none does, or several do.
    """
    query = select(decisions).where(decisions.c.id.startswith(start, autoescape=True)).limit(2)
    rows = connection.execute(query).mappings().all()
    if len(rows) != 1 or not start:
        number = "several decisions begin" if rows else "no decision begins"
        raise UnknownIdError(f"{number} with {start!r}; flywheel report NIGHT shows a night's id")
    return read_decision(rows[0])


def last_decision_on(connection: Connection, digest: str) -> Decision | None:
    """What was last decided on a candidate; None when it was never judged."""
    is_about = reports.c.record["candidate_digest"].as_string() == digest
    query = select(decisions).join(reports, reports.c.id == decisions.c.report_id).where(is_about)
    return _last(connection, query)


def _last(connection: Connection, query: Select[Any]) -> Decision | None:
    row = connection.execute(query.order_by(decisions.c.seq.desc()).limit(1)).mappings().first()
    return None if row is None else read_decision(row)


def read_decision(row: RowMapping) -> Decision:
    """The decision of a row of its table."""
    return Decision(
        id=row["id"],
        night=row["night"],
        report_id=row["report_id"],
        verdict=Verdict(row["verdict"]),
        reasons=tuple(row["reasons"]),
        e_value=row["e_value"],
        needed_e_value=row["needed_e_value"],
        closes_challenge=row["closes_challenge"],
        gate_settings=dict(row["gate_settings"]),
        overrides=row["overrides"],
        created_at=row["created_at"],
    )
