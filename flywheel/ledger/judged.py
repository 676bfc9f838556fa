"""Reports, decisions with all their reasons, the challenges behind them, and approvals.

Adding one twice changes nothing. A night that was run again may have two; the later one counts.
Rescored reports, under another metric, stand beside the originals, on which the decisions were made.
A label that no challenge has opened is sealed: no decision has seen it, which is how the error budget
is kept. One approval is open at a time and is answered once.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict
from typing import Any, NamedTuple

from sqlalchemy import Connection, Row, Select, insert, select, update

from flywheel.errors import UnknownIdError
from flywheel.ledger.codec import from_json, from_row, to_json, to_row
from flywheel.ledger.dialects import insert_new
from flywheel.ledger.serving_tables import approvals, probes
from flywheel.ledger.tables import challenges, decisions, openings, reports, rescored
from flywheel.records import Approval, Challenge, Consent, Decision, Probe, Report


def add_report(connection: Connection, report: Report) -> None:
    """Store a report, once for each id."""
    row = to_row(reports, report, record=to_json(report))
    connection.execute(insert_new(reports), row)


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
    row = {"report_id": report_id, "metric_id": report.metric_id, "record": to_json(report)}
    connection.execute(insert_new(rescored), row)


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


def add_probes(connection: Connection, new: Iterable[Probe]) -> None:
    """Store what was trained to forecast from."""
    rows = [{"dataset_id": probe.dataset_id, "record": to_json(probe)} for probe in new]
    connection.execute(insert(probes), rows)


def newest_probes(connection: Connection) -> list[Probe]:
    """What was trained last to forecast from: all of one dataset version; of equal parts the newest."""
    newest = select(probes.c.dataset_id).order_by(probes.c.seq.desc()).limit(1).scalar_subquery()
    query = select(probes.c.record).where(probes.c.dataset_id == newest).order_by(probes.c.seq)
    found = (from_json(Probe, record) for record in connection.execute(query).scalars())
    return list({(probe.rows, probe.num_train): probe for probe in found}.values())


def add_decision(connection: Connection, decision: Decision) -> None:
    """Store a decision, once for each id; its report must be there."""
    connection.execute(insert_new(decisions), to_row(decisions, decision))


def get_decision(connection: Connection, night: int) -> Decision | None:
    """The decision of a night; None when it has none."""
    return _last(connection, select(decisions).where(decisions.c.night == night))


def find_decision(connection: Connection, start: str) -> Decision:
    """The one decision whose id begins so.

    Raises:
        UnknownIdError: none does, or several do.
    """
    query = select(decisions).where(decisions.c.id.startswith(start, autoescape=True)).limit(2)
    rows = connection.execute(query).all()
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
    row = connection.execute(query.order_by(decisions.c.seq.desc()).limit(1)).first()
    return None if row is None else read_decision(row)


def read_decision(row: Row[Any]) -> Decision:
    """The decision of a row of its table."""
    return from_row(Decision, row, reasons=tuple(row.reasons))


_ORDER = (challenges.c.generation, challenges.c.number)


class Opening(NamedTuple):
    """Which challenge was the newest when a label was first seen, and in which night."""

    generation: int
    number: int
    night: int

    def serves(self, challenge: Challenge) -> bool:
        """Whether the label is evidence for an open challenge: no older one than it began with saw it."""
        first = challenge.number - challenge.took_over
        return self.generation == challenge.generation and first <= self.number


def open_challenge(
    connection: Connection, challenge: Challenge, sample_ids: Iterable[str], night: int
) -> None:
    """Store a challenge, and the labels that it sees from this night on; twice changes nothing."""
    connection.execute(insert_new(challenges), asdict(challenge))
    opening = Opening(challenge.generation, challenge.number, night)._asdict()
    rows = [{"sample_id": sample_id, **opening} for sample_id in sample_ids]
    if rows:
        connection.execute(insert_new(openings), rows)


def close_challenge(connection: Connection, challenge: Challenge, night: int) -> None:
    """Mark a challenge as decided or given up; one that is closed stays as it is."""
    mine = (
        challenges.c.generation == challenge.generation,
        challenges.c.number == challenge.number,
        challenges.c.closed_night.is_(None),
    )
    connection.execute(update(challenges).where(*mine).values(closed_night=night))


def last_challenge(connection: Connection) -> Challenge | None:
    """The newest challenge, open or closed; None before the first."""
    query = select(challenges).order_by(*(column.desc() for column in _ORDER)).limit(1)
    row = connection.execute(query).first()
    return None if row is None else from_row(Challenge, row)


def open_challenges(connection: Connection) -> tuple[Challenge, ...]:
    """The challenges that are not decided or given up, oldest first."""
    query = select(challenges).where(challenges.c.closed_night.is_(None)).order_by(*_ORDER)
    return tuple(from_row(Challenge, row) for row in connection.execute(query))


def all_openings(connection: Connection) -> dict[str, Opening]:
    """Sample id -> its opening, for every label that a decision has seen."""
    rows = connection.execute(select(openings))
    return {row.sample_id: from_row(Opening, row) for row in rows}


def labels_in_use(connection: Connection, opened: Mapping[str, Opening]) -> set[str]:
    """Those of the opened samples whose labels an open challenge judges by."""
    still = open_challenges(connection)
    return {
        sample_id
        for sample_id, opening in opened.items()
        if any(opening.serves(challenge) for challenge in still)
    }


def mean_uses(connection: Connection, opened: Mapping[str, Opening], tonight: int) -> float:
    """In how many decisions a label has been used on average, tonight's included; 0 without any."""
    query = select(decisions.c.night).where(decisions.c.needed_e_value.is_not(None)).distinct()
    nights = {*connection.execute(query.where(decisions.c.night < tonight)).scalars(), tonight}
    uses = [sum(night >= opening.night for night in nights) for opening in opened.values()]
    return sum(uses) / len(uses) if uses else 0.0


def ask(connection: Connection, approval: Approval) -> Approval:
    """Ask, once for each decision; a question that waits is superseded. What is asked now."""
    insert = insert_new(approvals)
    connection.execute(insert, asdict(approval))
    older = approvals.c.answer.is_(None), approvals.c.decision_id != approval.decision_id
    reason = f"decision {approval.decision_id[:12]} took its place"
    values = {"answer": Consent.SUPERSEDED, "reason": reason, "answered_at": approval.asked_at}
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
    row = connection.execute(query).first()
    return None if row is None else from_row(Approval, row)


def last_approval(connection: Connection) -> Approval | None:
    """The question that was asked last."""
    query = select(approvals).order_by(approvals.c.night.desc(), approvals.c.asked_at.desc())
    row = connection.execute(query.limit(1)).first()
    return None if row is None else from_row(Approval, row)


def find_approval(connection: Connection, start: str) -> Approval:
    """The one question about a decision whose id begins so.

    Raises:
        UnknownIdError: no decision, or more than one, matches.
    """
    about = approvals.c.decision_id.startswith(start, autoescape=True)
    rows = connection.execute(select(approvals).where(about).limit(2)).all()
    if len(rows) != 1 or not start:
        number = "several approvals are" if rows else "no approval is"
        raise UnknownIdError(
            f"{number} wanted of a decision that begins with {start!r}; "
            "flywheel status shows what waits"
        )
    return from_row(Approval, rows[0])
