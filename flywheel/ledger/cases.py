"""The hard cases of a night: failures and chosen samples with what the model said of them.

Read by the pages that people look at. Only a bounded number of rows is ever read; what a
picture looks like and what a page is are not known here.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Row, Select, func, select

from flywheel.ledger.labeling import newest_labels
from flywheel.ledger.tables import choices, failures, predictions, transitions
from flywheel.records import FailureState, Json, Label, Share, Signal

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
    """where the failure is now; None when the sample is none"""
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
    """The failures that came to a state in a night, strongest signals first."""
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
        .where(choices.c.batch_id == batch_id, choices.c.share == share.value)
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
    """How many failures came to each state in a night."""
    query = (
        select(transitions.c.state, func.count().label("number"))
        .where(transitions.c.night == night)
        .group_by(transitions.c.state)
    )
    counts = {FailureState(row.state): int(row.number) for row in connection.execute(query)}
    return {state: counts.get(state, 0) for state in FailureState}


def _moved(night: int, state: FailureState) -> Select[tuple[str]]:
    return select(transitions.c.sample_id).where(
        transitions.c.night == night, transitions.c.state == state.value
    )


def _cases() -> Select[Any]:
    return select(
        predictions.c.sample_id,
        predictions.c.answer,
        predictions.c.confidence,
        failures.c.signals,
        failures.c.state,
        choices.c.share,
        choices.c.reason,
        choices.c.inclusion_probability,
    )


def _read(connection: Connection, query: Select[Any]) -> list[Case]:
    rows = connection.execute(query).all()
    labels = newest_labels(connection, [row.sample_id for row in rows])
    return [_case(row, labels.get(row.sample_id)) for row in rows]


def _case(row: Row[Any], label: Label | None) -> Case:
    signals = sorted((row.signals or {}).items(), key=lambda item: (-item[1], item[0]))
    return Case(
        sample_id=row.sample_id,
        answer=row.answer,
        confidence=row.confidence,
        signals=tuple(Signal(name=name, strength=strength) for name, strength in signals),
        state=FailureState(row.state) if row.state else None,
        share=Share(row.share) if row.share else None,
        reason=row.reason or "",
        inclusion_probability=row.inclusion_probability,
        label=label if label is not None and label.answer is not None else None,
    )
