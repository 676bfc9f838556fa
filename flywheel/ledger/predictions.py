"""Predictions and feedback: appended once, in the order in which they become durable.

`seq` grows in that order, so that a night can stop anywhere and continue there. The length of the
log, and how much of it no collection has read yet, is counted by index.

Outcomes are read as training needs them: the newest ones, and those of samples that have a label.
Claims are feedback that calls an answer wrong: which source said so, and what annotators found.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

import numpy as np
from sqlalchemy import Connection, Row, Select, delete, func, insert, select

from flywheel.errors import UnknownIdError
from flywheel.ledger.annotations import newest_labels
from flywheel.ledger.codec import from_row, to_row
from flywheel.ledger.dialects import in_parts, insert_new, keep_commit_order
from flywheel.ledger.samples import Placed, add_samples, keep_payloads, prediction_id
from flywheel.ledger.serving_tables import early_feedback
from flywheel.ledger.tables import feedback, labels, predictions, samples, watermarks
from flywheel.records import (
    ANNOTATORS,
    Array,
    Feedback,
    FeedbackKind,
    Json,
    Prediction,
    Sample,
    Split,
    canonical,
)

_EMBEDDING = np.dtype("<f4")
_ID_CHARACTERS = 32
_INSERT = insert(predictions)  # built once: every prediction served waits for it


@dataclass(frozen=True, kw_only=True, slots=True)
class Logged:
    """One prediction with the sample that it is about."""

    sample: Sample
    group: str
    split: Split
    prediction: Prediction
    has_payload: bool = True
    """False: the payload is not in `sample`, and in the blobs already"""


def append_predictions(connection: Connection, entries: Sequence[Logged]) -> None:
    """Add predictions with their samples and payloads; large payloads are in the blobs already."""
    if not entries:
        return
    keep_commit_order(connection, predictions)
    placed = [Placed(entry.sample, entry.group, entry.split) for entry in entries]
    add_samples(connection, placed, entries[0].prediction.created_at)
    keep_payloads(connection, (entry.sample for entry in entries if entry.has_payload))
    made = [entry.prediction for entry in entries]
    rows = [to_row(predictions, one, embedding=write_embedding(one.embedding)) for one in made]
    connection.execute(_INSERT, rows)
    _release_early(connection, [one.id for one in made])


def _release_early(connection: Connection, ids: Sequence[str]) -> None:
    """Add the feedback that came before these predictions."""
    if connection.execute(select(early_feedback.c.id).limit(1)).first() is None:
        return
    for part in in_parts(ids):
        mine = early_feedback.c.prediction_id.in_(part)
        rows = connection.execute(select(early_feedback).where(mine)).all()
        append_feedback(connection, [from_row(Feedback, row) for row in rows])
        if rows:
            connection.execute(delete(early_feedback).where(mine))


def get_prediction(connection: Connection, request_id: str) -> Prediction:
    """The prediction of a request id.

    Raises:
        UnknownIdError: no prediction has it.
    """
    query = select(predictions).where(predictions.c.id == prediction_id(request_id))
    row = connection.execute(query).one_or_none()
    if row is None:
        raise UnknownIdError(
            f"no prediction {request_id!r}; send a request_id that /predict has answered"
        )
    return from_row(Prediction, row, embedding=read_embedding(row.embedding))


def write_embedding(embedding: Array) -> bytes:
    """An embedding as it is stored: (D,) float32, little endian."""
    return np.asarray(embedding, dtype=_EMBEDDING).tobytes()


def read_embedding(stored: bytes) -> Array:
    """The embedding of its bytes: (D,) float32."""
    return np.frombuffer(stored, dtype=_EMBEDDING).astype(np.float32)


@dataclass(frozen=True, kw_only=True, slots=True)
class LogSize:
    """The log of predictions and how much of it no collection has read."""

    num_predictions: int
    num_uncollected: int
    num_unsure: int
    """uncollected ones below the confidence that was asked about"""


def measure_log(connection: Connection, low_confidence: float) -> LogSize:
    """How many predictions there are, and how many came after the last collection."""
    mark = select(watermarks.c.seq).where(watermarks.c.name == "predictions collected")
    collected = connection.execute(mark).scalar() or 0
    total, new = select(func.count()).select_from(predictions), predictions.c.seq > collected
    return LogSize(
        num_predictions=connection.execute(total).scalar_one(),
        num_uncollected=connection.execute(total.where(new)).scalar_one(),
        num_unsure=connection.execute(
            total.where(new, predictions.c.confidence < low_confidence)
        ).scalar_one(),
    )


def feedback_id(request_id: str, kind: FeedbackKind, value: Json) -> str:
    """The id of feedback follows from what it says, so saying it twice changes nothing."""
    text = canonical([prediction_id(request_id), kind.value, value])
    return hashlib.sha256(text.encode()).hexdigest()[:_ID_CHARACTERS]


def append_feedback(connection: Connection, entries: Sequence[Feedback]) -> int:
    """Add feedback; what is known already is passed over. How many were new."""
    if not entries:
        return 0
    keep_commit_order(connection, feedback)
    count = select(func.max(feedback.c.seq))
    before = connection.execute(count).scalar() or 0
    rows = [
        asdict(entry)
        | {"kind": entry.kind.value, "prediction_id": prediction_id(entry.prediction_id)}
        for entry in entries
    ]
    connection.execute(insert_new(feedback), rows)
    new = select(func.count()).where(feedback.c.seq > before)
    return int(connection.execute(new).scalar_one())


class LoggedAnswer(NamedTuple):
    """What production answered to a sample."""

    answer: Json
    confidence: float
    embedding: Array
    is_of_model: bool
    """whether the model that was asked about gave it"""


def logged_answers(
    connection: Connection, sample_ids: Sequence[str], models: Sequence[str]
) -> dict[str, LoggedAnswer]:
    """The newest answer of some models to each sample; of samples without one, that of any model."""
    found = dict[str, LoggedAnswer]()
    columns = [predictions.c[name] for name in ("sample_id", "answer", "confidence", "embedding")]
    query = select(*columns, predictions.c.model_digest).order_by(predictions.c.seq)
    for part in in_parts(sample_ids):
        for row in connection.execute(query.where(predictions.c.sample_id.in_(part))):
            is_of_model = row.model_digest in models
            before = found.get(row.sample_id)
            if is_of_model or before is None or not before.is_of_model:
                place = read_embedding(row.embedding)
                found[row.sample_id] = from_row(
                    LoggedAnswer, row, embedding=place, is_of_model=is_of_model
                )
    return found


def first_answers(connection: Connection, sample_ids: Sequence[str]) -> dict[str, Json]:
    """The first answer that any model gave to each of these samples; of those that were asked about."""
    found = dict[str, Json]()
    query = select(predictions.c.sample_id, predictions.c.answer).order_by(predictions.c.seq)
    for part in in_parts(sample_ids):
        for row in connection.execute(query.where(predictions.c.sample_id.in_(part))):
            found.setdefault(row.sample_id, row.answer)
    return found


class Outcome(NamedTuple):
    """What became of an answer."""

    sample_id: str
    answer: Json
    """the model's"""
    worked: bool


def newest_outcomes(connection: Connection, limit: int) -> list[Outcome]:
    """The newest outcomes on samples that may train, each sample once, newest first."""
    query = _query().where(samples.c.split == Split.TRAIN)
    return _each_once(connection.execute(query.limit(limit)))


def outcomes_of(connection: Connection, sample_ids: Sequence[str]) -> list[Outcome]:
    """The newest outcome of each of these samples that has one."""
    found: list[Outcome] = []
    for part in in_parts(sample_ids):
        here = predictions.c.sample_id.in_(part)
        found += _each_once(connection.execute(_query().where(here)))
    return found


def _query() -> Select[Any]:
    return (
        select(predictions.c.sample_id, predictions.c.answer, feedback.c.value)
        .join(predictions, predictions.c.id == feedback.c.prediction_id)
        .join(samples, samples.c.id == predictions.c.sample_id)
        .where(feedback.c.kind == FeedbackKind.OUTCOME)
        .order_by(feedback.c.seq.desc())
    )


def _each_once(rows: Any) -> list[Outcome]:
    newest: dict[str, Row[Any]] = {}
    for row in rows:
        newest.setdefault(row.sample_id, row)
    return [
        Outcome(sample_id=row.sample_id, answer=row.answer, worked=row.value is True)
        for row in newest.values()
    ]


Agree = Callable[[Json, Json], bool]
"""whether two answers are the same to an annotator"""

_LABELS = 2_000
"""newest labels that claims are compared with"""


def claimants(connection: Connection, sample_ids: Sequence[str]) -> dict[str, set[str]]:
    """The sources that called an answer to each sample wrong; "" is the one without a name."""
    found: dict[str, set[str]] = defaultdict(set)
    for row in _feedback_on(connection, sample_ids):
        if _is_claim(row, lambda one, other: bool(one == other)):
            found[row.sample_id].add(row.source)
    return dict(found)


def claims_checked(connection: Connection, agree: Agree) -> dict[str, tuple[int, int]]:
    """Source -> claims that annotators found right, and all that they have looked at.

    Only samples with one of the newest 2,000 labels of annotators are looked at.
    """
    query = (
        select(labels.c.sample_id)
        .where(labels.c.source == ANNOTATORS)
        .order_by(labels.c.seq.desc())
        .limit(_LABELS)
    )
    ids = list(dict.fromkeys(connection.execute(query).scalars()))
    known = newest_labels(connection, ids)
    found: dict[str, tuple[int, int]] = defaultdict(lambda: (0, 0))
    for row in _feedback_on(connection, ids):
        label = known[row.sample_id].answer
        if label is not None and _is_claim(row, agree):
            right, checked = found[row.source]
            found[row.source] = (right + (not agree(row.answer, label)), checked + 1)
    return dict(found)


def _feedback_on(connection: Connection, sample_ids: Sequence[str]) -> list[Row[Any]]:
    query: Select[Any] = select(
        predictions.c.sample_id,
        predictions.c.answer,
        feedback.c.source,
        feedback.c.kind,
        feedback.c.value,
    ).join(feedback, feedback.c.prediction_id == predictions.c.id)
    rows: list[Row[Any]] = []
    for part in in_parts(sample_ids):
        here = predictions.c.sample_id.in_(part)
        rows += connection.execute(query.where(here).order_by(feedback.c.seq))
    return rows


def _is_claim(row: Row[Any], agree: Agree) -> bool:
    """Whether feedback says that the answer is wrong; a correction says so when it differs."""
    if row.kind == FeedbackKind.OUTCOME:
        return row.value is False
    if row.kind == FeedbackKind.RATING:
        return bool(row.value < 0.5)
    return not agree(row.value, row.answer)
