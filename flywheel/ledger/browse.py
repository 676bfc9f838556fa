"""Samples of production by what is known of them, a window at a time, for pages that people click through.

Each window walks an index from where the last one ended and reads a bounded number of rows, however many
predictions there are. What no index knows is checked on the rows of the window by the caller.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import datetime
from typing import Any, NamedTuple

from sqlalchemy import Connection, Select, String, cast, func, or_, select

from flywheel.ledger.annotations import newest_labels
from flywheel.ledger.codec import from_row
from flywheel.ledger.engine import read_renames
from flywheel.ledger.failures import Case, case_columns, read_case
from flywheel.ledger.predictions import read_embedding
from flywheel.ledger.tables import annotations as given
from flywheel.ledger.tables import (
    choices,
    failures,
    labels,
    nights,
    predictions,
    samples,
    transitions,
)
from flywheel.ledger.windows import latest
from flywheel.records import Array, FailureState, Label

_SCANNED = 20_000
"""rows of an index that one window reads at most"""
_ROWS = 200
"""samples that one window returns at most"""


class Window(NamedTuple):
    """Some samples, and where to go on."""

    rows: list[tuple[int, str]]
    """where the walk goes on after this sample, and its id"""
    end: int | None
    """where the next window begins; None: nothing is left"""


class Seen(NamedTuple):
    """A sample as production last saw it."""

    case: Case
    place: int
    """of its newest prediction in the log; 0: production never saw it"""
    model_digest: str
    prediction_id: str
    at: datetime
    """of that prediction, else of the sample"""


class Span(NamedTuple):
    """A stretch of the log of predictions: (after, upto]."""

    after: int
    upto: int


def span_of(connection: Connection, night: int) -> Span | None:
    """What arrived before a night and after the one before it; None: there is no such night."""
    query = select(nights.c.number, nights.c.started_at).where(
        nights.c.number.in_((night - 1, night))
    )
    starts = {int(row.number): row.started_at for row in connection.execute(query)}
    if night not in starts:
        return None
    before = starts.get(night - 1)
    first = 0 if before is None else _place_at(connection, before)
    return Span(first, _place_at(connection, starts[night]))


def _place_at(connection: Connection, moment: datetime) -> int:
    """The place of the last prediction before a time, by bisection: the log is in the order of time."""
    low, high = 0, latest(connection, "predictions")
    query = select(predictions.c.seq, predictions.c.created_at).order_by(predictions.c.seq.desc())
    while low < high:
        middle = (low + high + 1) // 2
        row = connection.execute(query.where(predictions.c.seq <= middle).limit(1)).first()
        if row is not None and row.created_at >= moment:
            high = min(middle, int(row.seq)) - 1
        else:
            low = middle
    return low


def predicted(
    connection: Connection,
    start: int | None,
    span: Span | None = None,
    confidences: tuple[float, float] = (0.0, 1.0),
    name: str = "",
) -> Window:
    """Samples by their predictions, newest first: of a span, of these confidences, that answer a name."""
    after = span.after if span is not None else 0
    top = span.upto if span is not None else latest(connection, "predictions")
    top = top if start is None else min(start - 1, top)
    floor = max(after, top - _SCANNED)
    query = select(predictions.c.seq, predictions.c.sample_id).where(
        predictions.c.seq > floor, predictions.c.seq <= top
    )
    if confidences != (0.0, 1.0):
        query = query.where(predictions.c.confidence.between(*confidences))
    if name:
        query = query.where(_names(connection, predictions.c.answer, name))
    return _walked(connection, query.order_by(predictions.c.seq.desc()), floor, after)


def labeled(connection: Connection, start: int | None, name: str) -> Window:
    """Samples with a label that names something, newest label first."""
    top = connection.execute(select(func.max(labels.c.seq))).scalar() or 0
    top = top if start is None else start - 1
    floor = max(0, top - _SCANNED)
    query = select(labels.c.seq, labels.c.sample_id).where(
        labels.c.seq > floor, labels.c.seq <= top, _names(connection, labels.c.answer, name)
    )
    return _walked(connection, query.order_by(labels.c.seq.desc()), floor, 0)


def _walked(connection: Connection, query: Select[Any], floor: int, end: int) -> Window:
    """The rows of an index above a floor; the next window begins below, unless that is the end."""
    rows = connection.execute(query.limit(_ROWS))
    found = [(int(row.seq), str(row.sample_id)) for row in rows]
    if len(found) == _ROWS:
        return Window(found, found[-1][0])
    return Window(found, floor + 1 if floor > end else None)


def failing(connection: Connection, start: int | None, state: FailureState | None) -> Window:
    """Failures in a state, the strongest first; of any state, the newest first."""
    if state is None:
        seen = transitions.c.state == FailureState.SEEN
        query = select(transitions.c.sample_id).where(seen).order_by(transitions.c.seq.desc())
    else:
        query = select(failures.c.sample_id).where(failures.c.state == state)
        query = query.order_by(failures.c.strength.desc(), failures.c.sample_id)
    return _part(connection, query, start)


def moved(connection: Connection, start: int | None, night: int, state: FailureState) -> Window:
    """Failures that reached a state in a night."""
    mine = (transitions.c.night == night, transitions.c.state == state)
    query = select(transitions.c.sample_id).where(*mine).order_by(transitions.c.seq)
    return _part(connection, query, start)


def annotated(connection: Connection, start: int | None, annotator: str) -> Window:
    """Samples that an annotator answered, the newest answer first."""
    skip = start or 0
    window = (
        select(given.c.sample_id, given.c.annotator)
        .order_by(given.c.updated_at.desc(), given.c.id)
        .limit(_SCANNED // 10)
        .offset(skip)
    )
    rows = connection.execute(window).all()
    found = [
        (skip + place, str(row.sample_id))
        for place, row in enumerate(rows, start=1)
        if row.annotator == annotator
    ]
    return Window(found, skip + len(rows) if len(rows) == _SCANNED // 10 else None)


def _part(connection: Connection, query: Any, start: int | None) -> Window:
    skip = start or 0
    ids = connection.execute(query.limit(_ROWS).offset(skip)).scalars().all()
    found = [(skip + place, str(key)) for place, key in enumerate(ids, start=1)]
    return Window(found, skip + len(found) if len(found) == _ROWS else None)


def _names(connection: Connection, column: Any, name: str) -> Any:
    """Whether an answer may name something, as text or as a number; under the names it had before too."""
    names = {name}
    for old, new in reversed(read_renames(connection).pairs):
        names |= {str(old)} if str(new) in names else set()
    stored = cast(column, String)
    return or_(
        *(
            test
            for one in sorted(names)
            for test in (stored == one, stored.contains(json.dumps(one), autoescape=True))
        )
    )


def cases_of(connection: Connection, sample_ids: Sequence[str]) -> dict[str, Seen]:
    """What is known of each of up to a few hundred samples, by its newest prediction.

    One that production never saw, as of the start data, has no answer and place 0.
    """
    newest = select(func.max(predictions.c.seq)).where(predictions.c.sample_id.in_(sample_ids))
    query = (
        select(
            *case_columns(),
            predictions.c.seq.label("place"),
            predictions.c.model_digest,
            predictions.c.id.label("prediction_id"),
            predictions.c.created_at.label("at"),
        )
        .select_from(predictions)
        .outerjoin(failures, failures.c.sample_id == predictions.c.sample_id)
        .outerjoin(choices, choices.c.sample_id == predictions.c.sample_id)
        .where(predictions.c.seq.in_(newest.group_by(predictions.c.sample_id)))
    )
    known = newest_labels(connection, sample_ids)
    found = {
        row.sample_id: from_row(Seen, row, case=read_case(row, known.get(row.sample_id)))
        for row in connection.execute(query)
    }
    others = select(samples.c.id, samples.c.created_at).where(
        samples.c.id.in_([key for key in sample_ids if key not in found])
    )
    for row in connection.execute(others):
        found[row.id] = Seen(_unseen(row.id, known.get(row.id)), 0, "", "", row.created_at)
    return found


def _unseen(sample_id: str, label: Label | None) -> Case:
    return Case(
        sample_id=sample_id,
        answer=None,
        confidence=0.0,
        signals=(),
        state=None,
        share=None,
        reason="",
        inclusion_probability=None,
        label=label if label is not None and label.answer is not None else None,
    )


def annotators_of(connection: Connection, sample_ids: Sequence[str]) -> dict[str, set[str]]:
    """Who answered each sample."""
    query = select(given.c.sample_id, given.c.annotator)
    found: dict[str, set[str]] = {}
    for row in connection.execute(query.where(given.c.sample_id.in_(sample_ids))):
        found.setdefault(row.sample_id, set()).add(row.annotator)
    return found


class Embedded(NamedTuple):
    """Where a model places a sample."""

    place: int
    """in the log of predictions"""
    sample_id: str
    model_digest: str
    embedding: Array
    """(D,) float32"""


def newest_embeddings(connection: Connection, limit: int, upto: int | None) -> list[Embedded]:
    """The newest predictions with their embeddings, the newest first; up to a place in the log."""
    place = predictions.c.seq.label("place")
    columns = (place, predictions.c.sample_id, predictions.c.model_digest)
    query = select(*columns, predictions.c.embedding).order_by(predictions.c.seq.desc())
    if upto is not None:
        query = query.where(predictions.c.seq <= upto)
    return [
        from_row(Embedded, row, embedding=read_embedding(row.embedding))
        for row in connection.execute(query.limit(limit))
    ]
