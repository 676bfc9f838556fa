"""Windows on the log of predictions: what came since a watermark, and single predictions by place.

Each reader of the log has a watermark of its own. Reading costs what is new or asked for, however
long the log is.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from sqlalchemy import (
    Column,
    ColumnElement,
    Connection,
    Select,
    and_,
    func,
    insert,
    select,
    update,
)

from flywheel.ledger.annotations import is_brought
from flywheel.ledger.codec import from_row
from flywheel.ledger.dialects import in_parts
from flywheel.ledger.engine import Ledger
from flywheel.ledger.predictions import read_embedding
from flywheel.ledger.serving_tables import shadows
from flywheel.ledger.tables import choices, feedback, predictions, samples, trained, watermarks
from flywheel.records import Array, FeedbackKind, Json, Split

_PIECE = 20_000
_LOGS = {"predictions": predictions, "feedback": feedback, "shadows": shadows}
_SUSPECT = (
    predictions.c.id.label("prediction_id"),
    *(predictions.c[name] for name in ("sample_id", "answer", "confidence")),
)
_CANDIDATE = tuple(column for column in _SUSPECT if column.name != "answer")


class Suspect(NamedTuple):
    """A prediction together with what the world said of it, if anything."""

    prediction_id: str
    sample_id: str
    answer: Json
    confidence: float
    feedback: tuple[str, Json] | None
    """kind and value"""


class Candidate(NamedTuple):
    """A prediction from which the probability share may be drawn."""

    sample_id: str
    prediction_id: str
    confidence: float


class Served(NamedTuple):
    """A sample of recent production, with the newest of its predictions that was looked at."""

    sample_id: str
    prediction_id: str
    confidence: float
    may_be_chosen: bool
    """it may train, is in no batch yet, and came with no label"""


class Logged(NamedTuple):
    """What a model said once, without the answer."""

    model_digest: str
    confidence: float
    embedding: Array
    """(D,) float32"""


def watermark(connection: Connection, name: str) -> int:
    """Up to where a reader has read; 0 at first. The row is held until the transaction ends."""
    query = select(watermarks.c.seq).where(watermarks.c.name == name).with_for_update()
    return connection.execute(query).scalar() or 0


def move_watermark(connection: Connection, name: str, seq: int) -> None:
    """Say up to where a reader has read; never backwards."""
    query = select(watermarks.c.seq).where(watermarks.c.name == name).with_for_update()
    before = connection.execute(query).scalar()
    if before is None:
        connection.execute(insert(watermarks), {"name": name, "seq": seq})
    elif seq > before:
        connection.execute(update(watermarks).where(watermarks.c.name == name).values(seq=seq))


def latest(connection: Connection, log: str) -> int:
    """The newest row's number in predictions or feedback; 0 when there is none."""
    return connection.execute(select(func.max(_LOGS[log].c.seq))).scalar() or 0


def pieces(
    ledger: Ledger, log: str, mark: str, end: int | None = None
) -> Iterator[tuple[Connection, int, int]]:
    """Yield windows (after, upto] of a log, each in a transaction that also moves a reader's watermark."""
    if end is None:
        with ledger.read() as connection:
            end = latest(connection, log)
    while True:
        with ledger.begin() as connection:
            after = watermark(connection, mark)
            if after >= end:
                return
            upto = min(after + _PIECE, end)
            yield connection, after, upto
            move_watermark(connection, mark, upto)


def count_between(connection: Connection, log: str, after: int, upto: int) -> int:
    """How many rows of a log lie in the window (after, upto]; its numbers may have gaps."""
    query = select(func.count()).where(_between(_LOGS[log].c.seq, after, upto))
    return int(connection.execute(query).scalar_one())


def low_confidence(
    connection: Connection, after: int, upto: int, threshold: float
) -> Iterator[Suspect]:
    """Predictions in the window (after, upto] under a confidence."""
    query = select(*_SUSPECT).where(
        _between(predictions.c.seq, after, upto), predictions.c.confidence < threshold
    )
    for row in connection.execute(query.order_by(predictions.c.seq)):
        yield from_row(Suspect, row, feedback=None)


def disputed(connection: Connection, after: int, upto: int) -> Iterator[Suspect]:
    """Predictions with which a candidate in the shadow disagreed; the confidence is the larger one."""
    query = (
        select(*_SUSPECT, shadows.c.confidence.label("other"))
        .join(shadows, shadows.c.prediction_id == predictions.c.id)
        .where(_between(shadows.c.seq, after, upto), shadows.c.differs)
        .order_by(shadows.c.seq)
    )
    for row in connection.execute(query):
        confidence = max(row.confidence, row.other)
        yield from_row(Suspect, row, confidence=confidence, feedback=None)


def with_feedback(connection: Connection, after: int, upto: int) -> Iterator[Suspect]:
    """Predictions that got feedback in the window (after, upto] of the feedback log."""
    for row in connection.execute(_with_feedback(after, upto)):
        yield from_row(Suspect, row, feedback=(row.kind, row.value))


def _with_feedback(after: int, upto: int) -> Select[Any]:
    return (
        select(*_SUSPECT, feedback.c.kind, feedback.c.value)
        .join(feedback, feedback.c.prediction_id == predictions.c.id)
        .where(_between(feedback.c.seq, after, upto))
        .order_by(feedback.c.seq)
    )


class Outcome(NamedTuple):
    """What came of an answer."""

    sample_id: str
    group: str
    failed: bool


def outcomes_between(
    connection: Connection, digest: str, after: int, upto: int, limit: int
) -> list[Outcome]:
    """The newest outcomes of a model's answers in the window (after, upto] of the feedback log."""
    query = (
        select(predictions.c.sample_id, samples.c.group, feedback.c.value)
        .join(feedback, feedback.c.prediction_id == predictions.c.id)
        .join(samples, samples.c.id == predictions.c.sample_id)
        .where(
            _between(feedback.c.seq, after, upto),
            feedback.c.kind == FeedbackKind.OUTCOME,
            predictions.c.model_digest == digest,
        )
        .order_by(feedback.c.seq.desc())
        .limit(limit)
    )
    rows = connection.execute(query)
    return [Outcome(row.sample_id, row.group, row.value is False) for row in rows]


def feedback_in_training(
    connection: Connection, kind: FeedbackKind, after: int, upto: int
) -> Iterator[Suspect]:
    """Predictions on samples that may train and got feedback of a kind in the window (after, upto]."""
    query = _with_feedback(after, upto).join(samples, samples.c.id == predictions.c.sample_id)
    query = query.where(feedback.c.kind == kind, samples.c.split == Split.TRAIN)
    for row in connection.execute(query):
        yield from_row(Suspect, row, feedback=(row.kind, row.value))


def population(
    connection: Connection, after: int, upto: int, split: Split | None = None
) -> list[Candidate]:
    """The first prediction of each sample in the window that may be drawn; of a split, or of all.

    Samples that are in a batch, of a group that a model was trained on, or that came with a label
    from somewhere else, may not.
    """
    of_split = [] if split is None else [samples.c.split == split]
    first = (
        select(func.min(predictions.c.seq).label("seq"))
        .join(samples, samples.c.id == predictions.c.sample_id)
        .outerjoin(choices, choices.c.sample_id == predictions.c.sample_id)
        .outerjoin(trained, trained.c.group == samples.c.group)
        .where(
            _between(predictions.c.seq, after, upto),
            *of_split,
            choices.c.sample_id.is_(None),
            trained.c.group.is_(None),
            ~is_brought(predictions.c.sample_id),
        )
        .group_by(predictions.c.sample_id)
        .subquery()
    )
    query = select(*_CANDIDATE).join(first, first.c.seq == predictions.c.seq)
    rows = connection.execute(query.order_by(predictions.c.seq))
    return [from_row(Candidate, row) for row in rows]


def production_sample(connection: Connection, places: Sequence[int]) -> list[Served]:
    """The samples of the predictions at these places of the log, each sample once."""
    query = (
        select(
            *_CANDIDATE,
            samples.c.split,
            choices.c.batch_id,
            is_brought(predictions.c.sample_id).label("is_brought"),
        )
        .join(samples, samples.c.id == predictions.c.sample_id)
        .outerjoin(choices, choices.c.sample_id == predictions.c.sample_id)
        .order_by(predictions.c.seq)
    )
    found: dict[str, Served] = {}
    for part in in_parts(places):
        for row in connection.execute(query.where(predictions.c.seq.in_(part))):
            is_known = row.batch_id is not None or row.is_brought
            free = not is_known and row.split == Split.TRAIN
            found[row.sample_id] = from_row(Served, row, may_be_chosen=free)
    return list(found.values())


def recent_samples(connection: Connection, limit: int) -> list[str]:
    """The samples of the newest predictions, each once, newest first."""
    query = select(predictions.c.sample_id).order_by(predictions.c.seq.desc()).limit(limit)
    return list(dict.fromkeys(connection.execute(query).scalars()))


def logged(connection: Connection, prediction_ids: Sequence[str]) -> dict[str, Logged]:
    """What was logged of each prediction, without its answer."""
    query = select(predictions.c.id, *(predictions.c[name] for name in Logged._fields))
    return {
        row.id: from_row(Logged, row, embedding=read_embedding(row.embedding))
        for part in in_parts(prediction_ids)
        for row in connection.execute(query.where(predictions.c.id.in_(part)))
    }


def _between(column: Column[int], after: int, upto: int) -> ColumnElement[bool]:
    return and_(column > after, column <= upto)


class Pick(NamedTuple):
    """What a model said once."""

    sample_id: str
    prediction_id: str
    model_digest: str
    group: str
    """of its sample"""
    confidence: float
    embedding: Array
    """(D,) float32"""
    answer: Json


def picked(connection: Connection, places: Sequence[int]) -> list[Pick]:
    """The predictions at these places, oldest first; a place without one is passed over."""
    query = (
        select(*_SUSPECT, predictions.c.model_digest, predictions.c.embedding, samples.c.group)
        .join(samples, samples.c.id == predictions.c.sample_id)
        .order_by(predictions.c.seq)
    )
    return [
        from_row(Pick, row, embedding=read_embedding(row.embedding))
        for part in in_parts(places)
        for row in connection.execute(query.where(predictions.c.seq.in_(part)))
    ]
