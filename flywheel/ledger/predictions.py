"""Predictions and feedback: appended once, in the order in which they become durable.

`seq` grows in that order, so that a night can stop anywhere and continue there. The length of the
log, and how much of it no collection has read yet, is counted by index.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from sqlalchemy import Connection, RowMapping, func, insert, select

from flywheel.errors import UnknownIdError
from flywheel.ledger.dialects import insert_new, keep_commit_order
from flywheel.ledger.samples import Placed, add_samples, keep_payloads
from flywheel.ledger.tables import feedback, predictions, watermarks
from flywheel.records import Feedback, FeedbackKind, Json, Prediction, Sample, Split, canonical

_EMBEDDING = np.dtype("<f4")
_INSERT = insert(predictions)  # built once: every prediction served waits for it


@dataclass(frozen=True, kw_only=True, slots=True)
class Logged:
    """One prediction with the sample that it is about."""

    sample: Sample
    group: str
    split: Split
    prediction: Prediction


def append_predictions(connection: Connection, entries: Sequence[Logged]) -> None:
    """Add predictions with their samples and payloads; large payloads are in the blobs already."""
    if not entries:
        return
    keep_commit_order(connection, predictions)
    placed = [Placed(entry.sample, entry.group, entry.split) for entry in entries]
    add_samples(connection, placed, entries[0].prediction.created_at)
    keep_payloads(connection, (entry.sample for entry in entries))
    connection.execute(_INSERT, [_row(entry.prediction) for entry in entries])


def get_prediction(connection: Connection, prediction_id: str) -> Prediction:
    """The prediction of a request id.

    Raises:
        UnknownIdError: no prediction has it.
    """
    query = select(predictions).where(predictions.c.id == prediction_id)
    row = connection.execute(query).mappings().one_or_none()
    if row is None:
        raise UnknownIdError(
            f"no prediction {prediction_id!r}; send a request_id that /predict has answered"
        )
    return _prediction(row)


def _row(prediction: Prediction) -> dict[str, Any]:
    return {
        "id": prediction.id,
        "sample_id": prediction.sample_id,
        "answer": prediction.answer,
        "confidence": prediction.confidence,
        "embedding": np.asarray(prediction.embedding, dtype=_EMBEDDING).tobytes(),
        "latency_ms": prediction.latency_ms,
        "model_digest": prediction.model_digest,
        "created_at": prediction.created_at,
    }


def _prediction(row: RowMapping) -> Prediction:
    fields = {name: value for name, value in row.items() if name != "seq"}
    embedding = np.frombuffer(row["embedding"], dtype=_EMBEDDING).astype(np.float32)
    return Prediction(**fields | {"embedding": embedding})


@dataclass(frozen=True, kw_only=True, slots=True)
class LogSize:
    """The log of predictions and how much of it no collection has read."""

    num_predictions: int
    num_uncollected: int


def measure_log(connection: Connection) -> LogSize:
    """How many predictions there are, and how many came after the last collection."""
    mark = select(watermarks.c.seq).where(watermarks.c.name == "predictions collected")
    collected = connection.execute(mark).scalar() or 0
    total = select(func.count()).select_from(predictions)
    return LogSize(
        num_predictions=connection.execute(total).scalar_one(),
        num_uncollected=connection.execute(total.where(predictions.c.seq > collected)).scalar_one(),
    )


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
