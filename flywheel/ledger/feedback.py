"""Feedback: what the world said back, appended once however often it is sent."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import asdict, dataclass

from sqlalchemy import Connection, select

from flywheel.ledger.tables import feedback
from flywheel.ledger.writing import insert_new, keep_commit_order
from flywheel.records import Feedback, FeedbackKind, Json, canonical

_ID_CHARACTERS = 32


@dataclass(frozen=True, kw_only=True, slots=True)
class NumberedFeedback:
    """Feedback with its place in the ledger."""

    seq: int
    """grows in the order of commits"""
    feedback: Feedback


def feedback_id(prediction_id: str, kind: FeedbackKind, value: Json) -> str:
    """The id of feedback follows from what it says, so saying it twice changes nothing."""
    text = canonical([prediction_id, kind.value, value])
    return hashlib.sha256(text.encode()).hexdigest()[:_ID_CHARACTERS]


def append_feedback(connection: Connection, entries: Sequence[Feedback]) -> None:
    """Add feedback; what is known already is passed over."""
    if not entries:
        return
    keep_commit_order(connection, feedback)
    rows = [asdict(entry) | {"kind": entry.kind.value} for entry in entries]
    connection.execute(insert_new(connection, feedback), rows)


def feedback_after(
    connection: Connection, seq: int, limit: int, until: int | None = None
) -> list[NumberedFeedback]:
    """Up to `limit` rows with seq < their seq <= until, oldest first; no until, no end."""
    query = select(feedback).where(feedback.c.seq > seq)
    if until is not None:
        query = query.where(feedback.c.seq <= until)
    rows = connection.execute(query.order_by(feedback.c.seq).limit(limit)).mappings()
    return [
        NumberedFeedback(
            seq=row["seq"],
            feedback=Feedback(
                id=row["id"],
                prediction_id=row["prediction_id"],
                kind=FeedbackKind(row["kind"]),
                value=row["value"],
                created_at=row["created_at"],
            ),
        )
        for row in rows
    ]
