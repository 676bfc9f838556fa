"""Feedback: what the world said back, appended once however often it is sent."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import asdict

from sqlalchemy import Connection

from flywheel.ledger.tables import feedback
from flywheel.ledger.writing import insert_new, keep_commit_order
from flywheel.records import Feedback, FeedbackKind, Json, canonical

_ID_CHARACTERS = 32


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
