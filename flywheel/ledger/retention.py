"""Forgets what production has seen and nothing refers to, in pieces that are sound by themselves.

A sample is kept, with all its predictions, as soon as any other table names it: a failure, a
choice, a labeling task, an annotation, a label, an opening. Which tables these are is read from
the schema, so that a new table that refers to samples keeps them too.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple

from sqlalchemy import (
    ColumnElement,
    Connection,
    and_,
    delete,
    exists,
    func,
    or_,
    select,
)

from flywheel.ledger.engine import Ledger
from flywheel.ledger.tables import feedback, metadata, payloads, predictions, samples, watermarks

_PIECE = 2000
_READ_BY = ("predictions collected", "selected")
"""watermarks of those who read predictions; what they have not read stays"""
_OWN = (payloads, predictions)
"""tables whose rows go together with their sample"""


class Forgotten(NamedTuple):
    """Rows that went, or would go."""

    predictions: int = 0
    feedback: int = 0
    samples: int = 0
    payload_bytes: int = 0
    """of payloads that were still in the ledger; most are in the blobs"""


@dataclass(frozen=True, kw_only=True, slots=True)
class Horizon:
    """Up to where the logs may be forgotten."""

    before: datetime
    """what is younger stays"""
    upto: int
    """predictions up to this number have been read by all who read them"""
    told_upto: int
    """feedback up to this number, likewise"""


def horizon(
    connection: Connection, before: datetime, told_marks: tuple[str, ...], newest: int
) -> Horizon:
    """Where forgetting ends.

    The `newest` predictions stay, for canaries, and so does the last row of each log: SQLite
    would give its number out again, behind the watermarks.

    Args:
        connection: to the ledger.
        before: what is younger stays.
        told_marks: watermarks of those who read feedback.
        newest: at least 1.
    """
    marks = dict(connection.execute(select(watermarks.c.name, watermarks.c.seq)).tuples().all())
    last, last_told = (
        connection.execute(select(func.max(log.c.seq))).scalar() or 0
        for log in (predictions, feedback)
    )
    return Horizon(
        before=before,
        upto=min(last - max(newest, 1), *(marks.get(name, 0) for name in _READ_BY)),
        told_upto=min(last_told - 1, *(marks.get(name, 0) for name in told_marks)),
    )


def forget(ledger: Ledger, upto: Horizon) -> Forgotten:
    """Drop predictions with their feedback, then samples that are left without any, in pieces."""
    gone = Forgotten()
    for after, last in _windows(ledger, upto):
        with ledger.begin() as connection:
            gone = _sum(gone, _forget_predictions(connection, after, last, upto))
    while True:
        with ledger.begin() as connection:
            piece = _forget_samples(connection, upto)
        gone = _sum(gone, piece)
        if not piece.samples:
            return gone


def forgettable(connection: Connection, upto: Horizon) -> Forgotten:
    """What `forget` would drop; nothing is changed."""
    chosen = select(predictions.c.id).where(_goes(upto))
    num_told = select(func.count()).where(feedback.c.prediction_id.in_(chosen))
    lost = select(samples.c.id).where(_unnamed(upto))
    size = select(func.sum(func.length(payloads.c.data))).where(payloads.c.sample_id.in_(lost))
    return Forgotten(
        predictions=connection.execute(select(func.count()).where(_goes(upto))).scalar_one(),
        feedback=connection.execute(num_told).scalar_one(),
        samples=connection.execute(select(func.count()).where(_unnamed(upto))).scalar_one(),
        payload_bytes=connection.execute(size).scalar() or 0,
    )


def forgettable_among(connection: Connection, upto: Horizon, ids: Sequence[str]) -> set[str]:
    """Those of the samples that `forget` would drop."""
    found: set[str] = set()
    for part in _parts(ids):
        query = select(samples.c.id).where(samples.c.id.in_(part), _unnamed(upto))
        found.update(connection.execute(query).scalars())
    return found


def _windows(ledger: Ledger, upto: Horizon) -> Iterator[tuple[int, int]]:
    """(after, last] of pieces of the log of predictions, up to the horizon."""
    after = 0
    while True:
        with ledger.read() as connection:
            piece = (
                select(predictions.c.seq)
                .where(predictions.c.seq > after, predictions.c.seq <= upto.upto)
                .order_by(predictions.c.seq)
                .limit(_PIECE)
            )
            last = connection.execute(select(func.max(piece.subquery().c.seq))).scalar()
        if last is None:
            return
        yield after, last
        after = last


def _forget_predictions(connection: Connection, after: int, last: int, upto: Horizon) -> Forgotten:
    window = and_(predictions.c.seq > after, predictions.c.seq <= last, _goes(upto))
    # Held until the end: on PostgreSQL feedback on one of them waits, and then finds it gone.
    query = select(predictions.c.id).where(window).with_for_update()
    ids = list(connection.execute(query).scalars())
    num_told = 0
    for part in _parts(ids):
        told = delete(feedback).where(feedback.c.prediction_id.in_(part))
        num_told += connection.execute(told).rowcount
        connection.execute(delete(predictions).where(predictions.c.id.in_(part)))
    return Forgotten(predictions=len(ids), feedback=num_told)


def _forget_samples(connection: Connection, upto: Horizon) -> Forgotten:
    query = select(samples.c.id).where(_unnamed(upto)).limit(_PIECE).with_for_update()
    ids = list(connection.execute(query).scalars())
    size = 0
    for part in _parts(ids):
        mine = payloads.c.sample_id.in_(part)
        size += (
            connection.execute(select(func.sum(func.length(payloads.c.data))).where(mine)).scalar()
            or 0
        )
        connection.execute(delete(payloads).where(mine))
        connection.execute(delete(samples).where(samples.c.id.in_(part)))
    return Forgotten(samples=len(ids), payload_bytes=size)


def _goes(upto: Horizon) -> ColumnElement[bool]:
    """Whether a prediction may go: old, read by all, and of a sample that nothing names."""
    late = and_(feedback.c.prediction_id == predictions.c.id, feedback.c.seq > upto.told_upto)
    return and_(
        predictions.c.seq <= upto.upto,
        predictions.c.created_at < upto.before,
        ~exists().where(late),
        ~_named(predictions.c.sample_id),
    )


def _unnamed(upto: Horizon) -> ColumnElement[bool]:
    """Whether a sample may go: nothing names it, and no prediction of it stays."""
    stays = and_(predictions.c.sample_id == samples.c.id, ~_goes(upto))
    return and_(
        samples.c.created_at < upto.before,
        ~_named(samples.c.id),
        ~exists(select(predictions.c.seq).where(stays).correlate(samples)),
    )


def _named(sample_id: ColumnElement[Any]) -> ColumnElement[bool]:
    """Whether any table but those of predictions and payloads names a sample."""
    columns = [
        key.parent
        for table in metadata.sorted_tables
        if table not in _OWN
        for key in table.foreign_keys
        if key.column is samples.c.id
    ]
    return or_(*(exists().where(column == sample_id) for column in columns))


def _parts(ids: Sequence[str]) -> Iterator[Sequence[str]]:
    for start in range(0, len(ids), 500):
        yield ids[start : start + 500]


def _sum(one: Forgotten, other: Forgotten) -> Forgotten:
    return Forgotten._make(a + b for a, b in zip(one, other, strict=True))
