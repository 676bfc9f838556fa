"""Predictions and feedback that come in bulk: written once, whatever comes twice or in the wrong order.

What came without a confidence or an embedding is complete when a collection has computed it; feedback
that came before its prediction waits for it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from sqlalchemy import Connection, bindparam, delete, func, select, update

from flywheel.ledger.codec import from_row, to_row
from flywheel.ledger.dialects import in_parts, insert_new, keep_commit_order
from flywheel.ledger.predictions import (
    Logged,
    append_feedback,
    append_predictions,
    write_embedding,
)
from flywheel.ledger.serving_tables import early_feedback, incomplete
from flywheel.ledger.tables import predictions
from flywheel.records import Array, Feedback, Json, same_json

_MANY, _CACHE_KIB = 1_000, 65_536
"""rows of a transaction for which SQLite keeps more pages than its 2 MB, which it would write twice"""


@dataclass(frozen=True, kw_only=True, slots=True)
class Arrived:
    """A prediction as it came in."""

    entry: Logged
    has_confidence: bool
    has_embedding: bool


class Written(NamedTuple):
    """What became of the entries of one transaction."""

    num_new: int
    num_known: int
    """the same came before"""
    conflicting: tuple[int, ...]
    """places of entries whose id is that of another prediction"""


def append_arrived(connection: Connection, arrived: Sequence[Arrived]) -> Written:
    """Add predictions that are not known yet, and the feedback that waited for them."""
    keep_commit_order(connection, predictions)
    if connection.dialect.name == "sqlite" and len(arrived) >= _MANY:
        connection.exec_driver_sql(f"PRAGMA cache_size = -{_CACHE_KIB}")
    known = _known(connection, [one.entry.prediction.id for one in arrived])
    new: dict[str, Arrived] = {}
    conflicting = []
    for place, one in enumerate(arrived):
        prediction = one.entry.prediction
        before = known.get(prediction.id)
        if before is None:
            known[prediction.id] = (prediction.sample_id, prediction.answer)
            new[prediction.id] = one
        elif before[0] != prediction.sample_id or not same_json(before[1], prediction.answer):
            conflicting.append(place)
    append_predictions(connection, [one.entry for one in new.values()])
    rows = [
        {
            "prediction_id": name,
            "confidence": not one.has_confidence,
            "embedding": not one.has_embedding,
        }
        for name, one in new.items()
        if not (one.has_confidence and one.has_embedding)
    ]
    if rows:
        connection.execute(insert_new(incomplete), rows)
    num_known = len(arrived) - len(new) - len(conflicting)
    return Written(len(new), num_known, tuple(conflicting))


class Heard(NamedTuple):
    """What became of the feedback of one transaction."""

    num_new: int
    num_known: int
    num_early: int
    """of predictions that are not there yet; it waits for them"""


def append_heard(connection: Connection, entries: Sequence[Feedback]) -> Heard:
    """Add feedback that is not known yet; what came before its prediction waits."""
    keep_commit_order(connection, predictions)  # a prediction that comes now would not see it
    there = _known(connection, list({entry.prediction_id for entry in entries}))
    ready = {entry.id: entry for entry in entries if entry.prediction_id in there}
    early = {entry.id: entry for entry in entries if entry.prediction_id not in there}
    num_new = append_feedback(connection, list(ready.values()))
    if early:
        rows = [to_row(early_feedback, entry) for entry in early.values()]
        connection.execute(insert_new(early_feedback), rows)
    return Heard(num_new, len(entries) - num_new - len(early), len(early))


def num_early(connection: Connection) -> int:
    """How much feedback waits for its prediction."""
    return connection.execute(select(func.count()).select_from(early_feedback)).scalar_one()


def _known(connection: Connection, ids: Sequence[str]) -> dict[str, tuple[str, Json]]:
    """id -> sample and answer of the predictions that are there."""
    found = dict[str, tuple[str, Json]]()
    columns = (predictions.c.id, predictions.c.sample_id, predictions.c.answer)
    for part in in_parts(ids):
        for row in connection.execute(select(*columns).where(predictions.c.id.in_(part))):
            found[row.id] = (row.sample_id, row.answer)
    return found


class Incomplete(NamedTuple):
    """A prediction of which something is missing."""

    seq: int
    id: str
    sample_id: str
    answer: Json
    model_digest: str
    confidence: float | None
    """None: it is missing"""
    has_embedding: bool


def incomplete_ones(connection: Connection, limit: int, before: int | None) -> list[Incomplete]:
    """Predictions of which something is missing, newest first, of those `before` a number."""
    query = (
        select(
            *(predictions.c[name] for name in Incomplete._fields if name in predictions.c),
            incomplete.c.confidence.label("needs_confidence"),
            incomplete.c.embedding.label("needs_embedding"),
        )
        .join(predictions, predictions.c.id == incomplete.c.prediction_id)
        .order_by(predictions.c.seq.desc())
        .limit(limit)
    )
    if before is not None:
        query = query.where(predictions.c.seq < before)
    return [
        from_row(
            Incomplete,
            row,
            confidence=None if row.needs_confidence else row.confidence,
            has_embedding=not row.needs_embedding,
        )
        for row in connection.execute(query)
    ]


def num_incomplete(connection: Connection) -> int:
    """How many predictions wait for a confidence or an embedding."""
    return connection.execute(select(func.count()).select_from(incomplete)).scalar_one()


class Completed(NamedTuple):
    """What was computed for a prediction; what is None stays missing."""

    id: str
    confidence: float | None
    embedding: Array | None


_MINE = update(predictions).where(predictions.c.id == bindparam("key"))
_CONFIDENCE = _MINE.values(confidence=bindparam("found"))
_EMBEDDING = _MINE.values(embedding=bindparam("found"))
_STILL = (
    update(incomplete)
    .where(incomplete.c.prediction_id == bindparam("key"))
    .values(confidence=bindparam("no_confidence"), embedding=bindparam("no_embedding"))
)


def complete(connection: Connection, found: Sequence[tuple[Incomplete, Completed]]) -> None:
    """Write what was computed; a prediction that lacks nothing any more is complete."""
    confidences, embeddings, still, done = [], [], [], []
    for before, now in found:
        if now.confidence is not None:
            confidences.append({"key": now.id, "found": now.confidence})
        if now.embedding is not None:
            data = write_embedding(now.embedding)
            embeddings.append({"key": now.id, "found": data})
        no_confidence = before.confidence is None and now.confidence is None
        no_embedding = not before.has_embedding and now.embedding is None
        if no_confidence or no_embedding:
            row = {"no_confidence": no_confidence, "no_embedding": no_embedding}
            still.append({"key": now.id, **row})
        else:
            done.append(now.id)
    for statement, rows in ((_CONFIDENCE, confidences), (_EMBEDDING, embeddings), (_STILL, still)):
        if rows:
            connection.execute(statement, rows)
    for part in in_parts(done):
        connection.execute(delete(incomplete).where(incomplete.c.prediction_id.in_(part)))
