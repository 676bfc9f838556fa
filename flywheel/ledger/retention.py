"""Retention: forgets production data that nothing refers to, in pieces that are each consistent.

A sample is kept, with all its predictions, as soon as any other table names it: a failure, a
choice, a labeling task, an annotation, a label, an opening. These tables are read from the schema,
so that a new table that refers to samples keeps them too. Likewise for blobs: every text in the
ledger that is a hash of 64 characters counts as the name of a blob, so that what a later version
of flywheel stores is kept without a change here.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
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
    update,
)

from flywheel.ledger.dialects import in_parts
from flywheel.ledger.engine import Ledger
from flywheel.ledger.serving_tables import (
    approvals,
    checkpoints,
    early_feedback,
    incomplete,
    releases,
    shadows,
)
from flywheel.ledger.tables import (
    challenges,
    dataset_versions,
    decisions,
    feedback,
    metadata,
    payloads,
    predictions,
    reports,
    samples,
    watermarks,
)

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
    feedback_upto: int
    """feedback up to this number, likewise"""


def horizon(
    connection: Connection, before: datetime, feedback_marks: tuple[str, ...], newest: int
) -> Horizon:
    """Where forgetting ends.

    The `newest` predictions stay, for canaries, and so does the last row of each log: SQLite
    would give its number out again, behind the watermarks.

    Args:
        connection: to the ledger.
        before: what is younger stays.
        feedback_marks: watermarks of those who read feedback.
        newest: at least 1.
    """
    marks = dict(connection.execute(select(watermarks.c.name, watermarks.c.seq)).tuples().all())
    last, last_feedback = (
        connection.execute(select(func.max(log.c.seq))).scalar() or 0
        for log in (predictions, feedback)
    )
    return Horizon(
        before=before,
        upto=min(last - max(newest, 1), *(marks.get(name, 0) for name in _READ_BY)),
        feedback_upto=min(last_feedback - 1, *(marks.get(name, 0) for name in feedback_marks)),
    )


def forget(ledger: Ledger, upto: Horizon) -> Forgotten:
    """Drop predictions with their feedback, then samples that are left without any, in pieces."""
    gone = Forgotten()
    with ledger.begin() as connection:  # its prediction will not come any more
        connection.execute(delete(early_feedback).where(early_feedback.c.created_at < upto.before))
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
    num_feedback = select(func.count()).where(feedback.c.prediction_id.in_(chosen))
    lost = select(samples.c.id).where(_unnamed(upto))
    size = select(func.sum(func.length(payloads.c.data))).where(payloads.c.sample_id.in_(lost))
    return Forgotten(
        predictions=connection.execute(select(func.count()).where(_goes(upto))).scalar_one(),
        feedback=connection.execute(num_feedback).scalar_one(),
        samples=connection.execute(select(func.count()).where(_unnamed(upto))).scalar_one(),
        payload_bytes=connection.execute(size).scalar() or 0,
    )


def forgettable_among(connection: Connection, upto: Horizon, ids: Sequence[str]) -> set[str]:
    """Those of the samples that `forget` would drop."""
    found: set[str] = set()
    for part in in_parts(ids):
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
    num_feedback = 0
    for part in in_parts(ids):
        outcomes = delete(feedback).where(feedback.c.prediction_id.in_(part))
        num_feedback += connection.execute(outcomes).rowcount
        connection.execute(delete(incomplete).where(incomplete.c.prediction_id.in_(part)))
        unsaid = update(shadows).where(shadows.c.prediction_id.in_(part)).values(answer=None)
        connection.execute(unsaid)  # the rows stay: a watermark counts them
        connection.execute(delete(predictions).where(predictions.c.id.in_(part)))
    return Forgotten(predictions=len(ids), feedback=num_feedback)


def _forget_samples(connection: Connection, upto: Horizon) -> Forgotten:
    query = select(samples.c.id).where(_unnamed(upto)).limit(_PIECE).with_for_update()
    ids = list(connection.execute(query).scalars())
    size = 0
    for part in in_parts(ids):
        mine = payloads.c.sample_id.in_(part)
        lengths = select(func.sum(func.length(payloads.c.data))).where(mine)
        size += connection.execute(lengths).scalar() or 0
        connection.execute(delete(payloads).where(mine))
        connection.execute(delete(samples).where(samples.c.id.in_(part)))
    return Forgotten(samples=len(ids), payload_bytes=size)


def _goes(upto: Horizon) -> ColumnElement[bool]:
    """Whether a prediction may go: old, read by all, and of a sample that nothing names."""
    late = and_(feedback.c.prediction_id == predictions.c.id, feedback.c.seq > upto.feedback_upto)
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


def _sum(one: Forgotten, other: Forgotten) -> Forgotten:
    return Forgotten._make(a + b for a, b in zip(one, other, strict=True))


_DIGEST = re.compile(r"(?<![0-9a-f])[0-9a-f]{64}(?![0-9a-f])")
_BY_SAMPLE = frozenset(
    {
        *("samples", "payloads", "predictions", "feedback", "failures", "transitions", "choices"),
        *("labeling_tasks", "requests", "annotations", "labels", "openings", "skips", "locks"),
        *("trained", "incomplete", "early_feedback"),
    }
)
"""tables with a row for each sample or group, or more; they name blobs by their sample only"""


def named_payloads(connection: Connection) -> Iterator[str]:
    """The payloads that must be in the blobs: of every sample but those still in the ledger."""
    query = (
        select(samples.c.id)
        .outerjoin(payloads, payloads.c.sample_id == samples.c.id)
        .where(payloads.c.sample_id.is_(None))
        .order_by(samples.c.id)
    )
    yield from connection.execute(query.execution_options(yield_per=5000)).scalars()


def samples_among(connection: Connection, digests: Sequence[str]) -> set[str]:
    """Those of the digests that are samples."""
    found: set[str] = set()
    for part in in_parts(digests):
        query = select(samples.c.id).where(samples.c.id.in_(part))
        found.update(connection.execute(query).scalars())
    return found


def needed_blobs(connection: Connection) -> set[str]:
    """Manifests of versions, scores of reports, and weights that serve or have served."""
    versions = connection.execute(select(dataset_versions.c.id)).scalars()
    scores = connection.execute(select(reports.c.record["scores_digest"].as_string())).scalars()
    served = connection.execute(select(releases.c.checkpoint_digest)).scalars()
    return {*versions, *scores, *served}


def mentioned(connection: Connection) -> set[str]:
    """Every digest in the tables that have a row for each night rather than for each sample."""
    found: set[str] = set()
    for table in metadata.sorted_tables:
        if table.name not in _BY_SAMPLE:
            for row in connection.execute(select(table)):
                found.update(_digests(row))
    return found


def spare_weights(connection: Connection, newest: int) -> list[str]:
    """Candidates whose weights are not needed again, the oldest first.

    Those stay that were ever released, are in a challenge that is open, wait for a person's
    approval, were judged last, or are among the `newest` of all others.
    """
    candidates = connection.execute(
        select(checkpoints.c.digest).order_by(checkpoints.c.created_at.desc(), checkpoints.c.digest)
    ).scalars()
    kept = set(connection.execute(select(releases.c.checkpoint_digest)).scalars())
    never = [digest for digest in candidates if digest not in kept]
    under_way = _under_way(connection)
    return [digest for digest in never[newest:] if digest not in under_way][::-1]


def _under_way(connection: Connection) -> set[str]:
    open_ones = select(challenges.c.challenger_digest, challenges.c.champion_digest).where(
        challenges.c.closed_night.is_(None)
    )
    found = {digest for row in connection.execute(open_ones) for digest in row}
    judged = select(reports.c.record).order_by(reports.c.seq.desc()).limit(1)
    found.update(_digests(connection.execute(judged)))
    waits = (
        select(reports.c.record)
        .join(decisions, decisions.c.report_id == reports.c.id)
        .join(approvals, approvals.c.decision_id == decisions.c.id)
        .where(approvals.c.answer.is_(None))
    )
    found.update(_digests(connection.execute(waits)))
    return found


def _digests(values: Iterable[object]) -> Iterator[str]:
    for value in values:
        yield from _DIGEST.findall(str(value))
