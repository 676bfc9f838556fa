"""Predictions: appended as they are served, in the order in which they become durable.

`seq` grows in that order, so that a night can stop anywhere and go on there. What a payload is
and what an answer means are not known here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from sqlalchemy import Connection, RowMapping, insert, select

from flywheel.errors import UnknownIdError
from flywheel.ledger.payloads import keep_payloads
from flywheel.ledger.samples import Placed, add_samples
from flywheel.ledger.tables import predictions
from flywheel.ledger.writing import keep_commit_order
from flywheel.records import Prediction, Sample, Split

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
