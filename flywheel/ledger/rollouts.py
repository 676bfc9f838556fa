"""Rollouts: a candidate on live traffic, its stage under way, what it did there, and how it ended.

The model server moves a rollout on and counts; it and every other process read from here where the
rollout is, so that a stage survives all of them. At most one is under way.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime
from typing import Any, Literal

from sqlalchemy import Connection, func, insert, select, update

from flywheel.ledger.codec import to_row
from flywheel.ledger.serving_tables import rollouts, shadows
from flywheel.ledger.tables import feedback, predictions
from flywheel.records import FeedbackKind, Json

_NOTE = 500
_MOST_OUTCOMES = 20_000

State = Literal["running", "promoted", "aborted"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Stage:
    """One stage of a rollout."""

    kind: Literal["shadow", "canary"]
    share: float
    """of the traffic that is answered unseen, or of the callers that get the candidate's answers"""
    seconds: float
    """that it lasts at least"""

    @property
    def name(self) -> str:
        """The stage in words."""
        return f"{self.kind} {self.share:.0%}"


@dataclass(frozen=True, kw_only=True, slots=True)
class Rollout:
    """A candidate on live traffic."""

    number: int
    digest: str
    threshold: float | None
    champion_digest: str
    """what answers the other callers"""
    reason: str
    """of the release that it becomes"""
    stages: tuple[Stage, ...]
    min_requests: int
    """in each stage"""
    limits: Mapping[str, float]
    """guardrail -> largest rate; and slow_ms, the latency above which a request counts as slow"""
    stage: int
    """place of the stage under way"""
    stage_began_at: datetime
    counts: Mapping[str, int] = field(default_factory=dict)
    """what happened in the stage, by name"""
    state: State = "running"
    note: str = ""
    """why it ended, or what it waits for"""
    marked: bool = False
    created_at: datetime
    finished_at: datetime | None = None

    @property
    def now(self) -> Stage:
        """The stage under way."""
        return self.stages[self.stage]


@dataclass(frozen=True, kw_only=True, slots=True)
class Shadowed:
    """What the candidate answered unseen."""

    prediction_id: str
    """of what the caller got"""
    answer: Json
    confidence: float
    latency_ms: float
    differs: bool
    fault: str
    """why there is no answer; "": there is one"""
    created_at: datetime


def begin_rollout(connection: Connection, rollout: Rollout) -> Rollout:
    """Add a rollout; its number follows from those before it."""
    before = connection.execute(select(func.max(rollouts.c.number))).scalar() or 0
    row = asdict(replace(rollout, number=before + 1, reason=rollout.reason[:_NOTE]))
    connection.execute(insert(rollouts), row)
    found = last_rollout(connection)
    assert found is not None  # noqa: S101  it was just written
    return found


def last_rollout(connection: Connection, *, locks: bool = False) -> Rollout | None:
    """The newest rollout; with `locks` no other process changes it until the transaction ends."""
    query = select(rollouts).order_by(rollouts.c.number.desc()).limit(1)
    row = connection.execute(query.with_for_update() if locks else query).mappings().first()
    if row is None:
        return None
    stages = tuple(Stage(**stage) for stage in row["stages"])
    return Rollout(**{**row, "stages": stages})


def running_rollout(connection: Connection, *, locks: bool = False) -> Rollout | None:
    """The rollout under way; None when there is none."""
    found = last_rollout(connection, locks=locks)
    return found if found is not None and found.state == "running" else None


def add_counts(connection: Connection, rollout: Rollout, counts: Mapping[str, int]) -> None:
    """Add to what happened in the stage under way."""
    total = {name: rollout.counts.get(name, 0) for name in {*rollout.counts, *counts}}
    total = {name: number + counts.get(name, 0) for name, number in total.items()}
    _change(connection, rollout, counts=total)


def next_stage(connection: Connection, rollout: Rollout, now: datetime) -> None:
    """Begin the next stage, with nothing counted."""
    _change(connection, rollout, stage=rollout.stage + 1, stage_began_at=now, counts={}, note="")


def note_rollout(connection: Connection, rollout: Rollout, note: str) -> None:
    """Say what a rollout waits for."""
    _change(connection, rollout, note=note[:_NOTE])


def end_rollout(
    connection: Connection, rollout: Rollout, state: State, note: str, now: datetime
) -> None:
    """End a rollout; from then on the champion answers all, or the candidate is the champion."""
    _change(connection, rollout, state=state, note=note[:_NOTE], finished_at=now)


def mark_rollout(connection: Connection, rollout: Rollout) -> None:
    """Note that the failures which the released candidate fixes are marked."""
    _change(connection, rollout, marked=True)


def _change(connection: Connection, rollout: Rollout, **values: Any) -> None:
    mine = rollouts.c.number == rollout.number
    connection.execute(update(rollouts).where(mine).values(**values))


def add_shadowed(connection: Connection, rollout: Rollout, found: Sequence[Shadowed]) -> None:
    """Store what a candidate answered unseen."""
    rows = [
        to_row(shadows, one, rollout=rollout.number, role="shadow", fault=one.fault[:_NOTE])
        for one in found
    ]
    if rows:
        connection.execute(insert(shadows), rows)


def outcomes_since(connection: Connection, digest: str, since: datetime | None) -> tuple[int, int]:
    """How many outcomes of a model's newest answers were failures, and how many there are."""
    query = (
        select(feedback.c.value)
        .join(predictions, predictions.c.id == feedback.c.prediction_id)
        .where(feedback.c.kind == FeedbackKind.OUTCOME, predictions.c.model_digest == digest)
        .order_by(feedback.c.seq.desc())
        .limit(_MOST_OUTCOMES)
    )
    if since is not None:
        query = query.where(predictions.c.created_at >= since)
    values = list(connection.execute(query).scalars())
    return sum(value is False for value in values), len(values)


def recent_answers(connection: Connection, digest: str, limit: int) -> list[tuple[float, float]]:
    """Confidence and latency of a model's newest answers."""
    query = (
        select(predictions.c.confidence, predictions.c.latency_ms)
        .where(predictions.c.model_digest == digest)
        .order_by(predictions.c.seq.desc())
        .limit(limit)
    )
    return [(row.confidence, row.latency_ms) for row in connection.execute(query)]
