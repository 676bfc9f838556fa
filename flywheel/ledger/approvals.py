"""Questions to a person whether a promoted candidate shall be released, and the answers.

One question waits at a time. It is answered once; whose answer counts is not known here.
"""

from __future__ import annotations

from dataclasses import asdict, replace

from sqlalchemy import Connection, RowMapping, select, update

from flywheel.errors import UnknownIdError
from flywheel.ledger.tables import approvals
from flywheel.ledger.writing import insert_new
from flywheel.records import Approval, Consent


def ask(connection: Connection, approval: Approval) -> Approval:
    """Ask, once for each decision; a question that waits is superseded. What is asked now."""
    insert = insert_new(connection, approvals)
    connection.execute(insert, asdict(approval))
    older = approvals.c.answer.is_(None), approvals.c.decision_id != approval.decision_id
    told = f"decision {approval.decision_id[:12]} took its place"
    values = {"answer": Consent.SUPERSEDED, "reason": told, "answered_at": approval.asked_at}
    connection.execute(update(approvals).where(*older).values(values))
    return find_approval(connection, approval.decision_id)


def answer(connection: Connection, approval: Approval) -> None:
    """Store the answer to a question; the first answer stays."""
    mine = approvals.c.decision_id == approval.decision_id, approvals.c.answer.is_(None)
    given = ("answer", "answered_by", "reason", "answered_at")
    values = {name: getattr(approval, name) for name in given}
    connection.execute(update(approvals).where(*mine).values(values))


def waiting_approval(connection: Connection) -> Approval | None:
    """The question that waits for an answer."""
    query = select(approvals).where(approvals.c.answer.is_(None))
    row = connection.execute(query).mappings().first()
    return None if row is None else _approval(row)


def last_approval(connection: Connection) -> Approval | None:
    """The question that was asked last."""
    query = select(approvals).order_by(approvals.c.night.desc(), approvals.c.asked_at.desc())
    row = connection.execute(query.limit(1)).mappings().first()
    return None if row is None else _approval(row)


def find_approval(connection: Connection, start: str) -> Approval:
    """The one question about a decision whose id begins so.

    Raises:
        UnknownIdError: there is none, or several.
    """
    about = approvals.c.decision_id.startswith(start, autoescape=True)
    rows = connection.execute(select(approvals).where(about).limit(2)).mappings().all()
    if len(rows) != 1 or not start:
        number = "several approvals are" if rows else "no approval is"
        raise UnknownIdError(
            f"{number} wanted of a decision that begins with {start!r}; "
            "flywheel status shows what waits"
        )
    return _approval(rows[0])


def _approval(row: RowMapping) -> Approval:
    found = Approval(**row)
    reply = None if found.answer is None else Consent(found.answer)
    return replace(found, at_deadline=Consent(found.at_deadline), answer=reply)
