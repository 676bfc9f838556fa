"""Failures and their life cycle, from suspected to fixed, and the hard cases that pages show.

Hard cases are failures and chosen samples with what the model answered. A bounded number of rows
is read, however many failures there are.
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Row, Select, func, insert, select, update

from flywheel.ledger.annotations import is_brought, newest_labels
from flywheel.ledger.codec import from_row, to_row
from flywheel.ledger.dialects import in_parts
from flywheel.ledger.tables import choices, failures, predictions, samples, transitions
from flywheel.records import Failure, FailureState, Json, Label, Share, Signal, Split

_ORDER = {state: place for place, state in enumerate(FailureState)}


def add_failures(
    connection: Connection, found: Sequence[Failure], night: int | None, now: datetime
) -> int:
    """Record failures; one that is known gets the new signals added. How many were new."""
    known = failures_of(connection, [failure.sample_id for failure in found])
    new = 0
    for failure in found:
        earlier = known.get(failure.sample_id)
        if earlier is None:
            row = to_row(failures, failure, signals=_signals(failure))
            connection.execute(insert(failures), row)
            _note(connection, [failure.sample_id], failure.state, night, now)
            known[failure.sample_id] = failure
            new += 1
        elif (merged := _with_signals(earlier, failure.signals)) != earlier:
            set_signals(connection, [merged])
            known[failure.sample_id] = merged
    return new


def set_signals(connection: Connection, known: Iterable[Failure]) -> None:
    """Give failures that are known the signals that they have now."""
    for failure in known:
        mine = failures.c.sample_id == failure.sample_id
        values = {"signals": _signals(failure), "strength": failure.strength}
        connection.execute(update(failures).where(mine).values(values))


def see_again(
    connection: Connection, sample_ids: Iterable[str], night: int | None, now: datetime
) -> None:
    """Move failures whose labeling tasks are gone back to the state seen."""
    _move(connection, list(sample_ids), FailureState.SEEN, night, now)


def move_failures(
    connection: Connection,
    sample_ids: Iterable[str],
    state: FailureState,
    night: int | None,
    now: datetime,
) -> int:
    """Move failures forward to a state; one that is there or further stays. How many moved."""
    known = failures_of(connection, list(sample_ids))
    moved = [key for key, failure in known.items() if _ORDER[failure.state] < _ORDER[state]]
    _move(connection, moved, state, night, now)
    return len(moved)


def num_moved(connection: Connection, state: FailureState, night: int) -> int:
    """The number of failures that reached a state in a night, over all its runs."""
    mine = (transitions.c.state == state, transitions.c.night == night)
    return connection.execute(select(func.count()).where(*mine)).scalar_one()


def nights_between(connection: Connection, first: FailureState, last: FailureState) -> list[int]:
    """Of each failure that reached both states, the nights from the one to the other."""
    began, ended = (transitions.alias(name) for name in ("began", "ended"))
    query = (
        select(ended.c.night - began.c.night)
        .join(began, began.c.sample_id == ended.c.sample_id)
        .where(began.c.state == first, ended.c.state == last)
    )
    return [wait for wait in connection.execute(query).scalars() if wait is not None]


def strongest_failures(
    connection: Connection, state: FailureState, split: Split, limit: int
) -> list[Failure]:
    """The failures with the strongest signals that are in no batch yet, strongest first."""
    query = _unchosen(state, split).order_by(failures.c.strength.desc(), failures.c.sample_id)
    return [_failure(row) for row in connection.execute(query.limit(limit))]


def waiting_failures(connection: Connection, split: Split, start: str, limit: int) -> list[Failure]:
    """An even sample of the failures in state seen that are in no batch yet.

    Ids are hashes, so those that follow a random `start`, around the end, are as good as drawn.
    """
    query = _unchosen(FailureState.SEEN, split).order_by(failures.c.sample_id)
    rows = connection.execute(query.where(failures.c.sample_id >= start).limit(limit)).all()
    if len(rows) < limit:
        around = query.where(failures.c.sample_id < start).limit(limit - len(rows))
        rows = [*rows, *connection.execute(around)]
    return [_failure(row) for row in rows]


def _unchosen(state: FailureState, split: Split) -> Select[Any]:
    return (
        select(failures)
        .join(samples, samples.c.id == failures.c.sample_id)
        .outerjoin(choices, choices.c.sample_id == failures.c.sample_id)
        .where(
            failures.c.state == state,
            samples.c.split == split,
            choices.c.sample_id.is_(None),  # one that was withdrawn is not chosen again
            ~is_brought(failures.c.sample_id),
        )
    )


def failures_in(connection: Connection, state: FailureState) -> list[Failure]:
    """All failures in a state."""
    query = select(failures).where(failures.c.state == state).order_by(failures.c.sample_id)
    return [_failure(row) for row in connection.execute(query)]


def count_failures(connection: Connection) -> dict[FailureState, int]:
    """How many failures are in each state."""
    return _by_state(connection, select(failures.c.state, func.count().label("number")))


def failures_of(connection: Connection, sample_ids: list[str]) -> dict[str, Failure]:
    """The failures of these samples; those that never failed are missing."""
    found: dict[str, Failure] = {}
    for part in in_parts(sample_ids):
        query = select(failures).where(failures.c.sample_id.in_(part))
        found.update((row.sample_id, _failure(row)) for row in connection.execute(query))
    return found


def _with_signals(failure: Failure, more: Iterable[Signal]) -> Failure:
    """The failure with further signals; of two with one name the stronger stays."""
    strengths = {signal.name: signal.strength for signal in failure.signals}
    for signal in more:
        strengths[signal.name] = max(signal.strength, strengths.get(signal.name, 0.0))
    signals = tuple(Signal(name=name, strength=value) for name, value in strengths.items())
    return dataclasses.replace(failure, signals=signals)


def _move(
    connection: Connection,
    sample_ids: Sequence[str],
    state: FailureState,
    night: int | None,
    now: datetime,
) -> None:
    for part in in_parts(sample_ids):
        mine = failures.c.sample_id.in_(part)
        connection.execute(update(failures).where(mine).values(state=state))
    _note(connection, sample_ids, state, night, now)


def _note(
    connection: Connection,
    sample_ids: Sequence[str],
    state: FailureState,
    night: int | None,
    now: datetime,
) -> None:
    rows = [{"sample_id": key, "state": state, "night": night, "at": now} for key in sample_ids]
    if rows:
        connection.execute(insert(transitions), rows)


def _signals(failure: Failure) -> dict[str, float]:
    return {signal.name: signal.strength for signal in failure.signals}


def _failure(row: Row[Any]) -> Failure:
    signals = tuple(Signal(name=name, strength=value) for name, value in row.signals.items())
    return from_row(Failure, row, signals=signals)


_SIGNALS_READ = 5_000


@dataclass(frozen=True, kw_only=True, slots=True)
class Case:
    """One sample, what the model said of it, and what became of it since."""

    sample_id: str
    answer: Json
    confidence: float
    """0..1"""
    signals: tuple[Signal, ...]
    """strongest first; empty for a sample that was only drawn at random"""
    state: FailureState | None
    """where the failure is now; None when the sample is not a failure"""
    share: Share | None
    """None: not chosen for labeling"""
    reason: str
    """why it was chosen; empty when it was not"""
    inclusion_probability: float | None
    """in (0, 1]; None for a targeted sample"""
    label: Label | None
    """the label that it has now"""


def failures_of_night(
    connection: Connection, night: int, state: FailureState, limit: int
) -> list[Case]:
    """The failures that reached a state in a night, strongest signals first."""
    query = (
        _cases()
        .join(predictions, predictions.c.id == failures.c.prediction_id)
        .outerjoin(choices, choices.c.sample_id == failures.c.sample_id)
        .where(failures.c.sample_id.in_(_moved(night, state)))
        .order_by(failures.c.strength.desc(), failures.c.sample_id)
    )
    return _read(connection, query.limit(limit))


def chosen_of_batch(connection: Connection, batch_id: str, share: Share, limit: int) -> list[Case]:
    """The samples of one share of a batch, those that are labeled first first."""
    query = (
        _cases()
        .select_from(choices)
        .join(predictions, predictions.c.id == choices.c.prediction_id)
        .outerjoin(failures, failures.c.sample_id == choices.c.sample_id)
        .where(choices.c.batch_id == batch_id, choices.c.share == share)
        .order_by(choices.c.priority.desc(), choices.c.sample_id)
    )
    return _read(connection, query.limit(limit))


def count_signals(connection: Connection, night: int) -> dict[str, int]:
    """How many of a night's new failures have each signal, among the 5,000 strongest."""
    query = (
        select(failures.c.signals)
        .where(failures.c.sample_id.in_(_moved(night, FailureState.SEEN)))
        .order_by(failures.c.strength.desc())
        .limit(_SIGNALS_READ)
    )
    counts = Counter(name for found in connection.execute(query).scalars() for name in found)
    return dict(counts.most_common())


def count_moved(connection: Connection, night: int) -> dict[FailureState, int]:
    """The number of failures that reached each state in a night."""
    query = select(transitions.c.state, func.count().label("number"))
    return _by_state(connection, query.where(transitions.c.night == night))


def _by_state(connection: Connection, query: Select[Any]) -> dict[FailureState, int]:
    counts = {row.state: row.number for row in connection.execute(query.group_by("state"))}
    return {state: counts.get(state, 0) for state in FailureState}


def _moved(night: int, state: FailureState) -> Select[tuple[str]]:
    mine = (transitions.c.night == night, transitions.c.state == state)
    return select(transitions.c.sample_id).where(*mine)


def case_columns() -> tuple[Any, ...]:
    """The columns that `read_case` reads."""
    return (
        predictions.c.sample_id,
        predictions.c.answer,
        predictions.c.confidence,
        failures.c.signals,
        failures.c.state,
        choices.c.share,
        choices.c.reason,
        choices.c.inclusion_probability,
    )


def _cases() -> Select[Any]:
    return select(*case_columns())


def _read(connection: Connection, query: Select[Any]) -> list[Case]:
    rows = connection.execute(query).all()
    labels = newest_labels(connection, [row.sample_id for row in rows])
    return [read_case(row, labels.get(row.sample_id)) for row in rows]


def read_case(row: Row[Any], label: Label | None) -> Case:
    """The case of a row with `case_columns`, and the label of its sample."""
    signals = sorted((row.signals or {}).items(), key=lambda item: (-item[1], item[0]))
    return from_row(
        Case,
        row,
        signals=tuple(Signal(name=name, strength=strength) for name, strength in signals),
        reason=row.reason or "",
        label=label if label is not None and label.answer is not None else None,
    )
