"""How the flywheel turned: what all nights came to, in counts and times.

Read by the page about all nights. A row a night or a failure, bounded where failures are read.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import NamedTuple

from sqlalchemy import Connection, func, select

from flywheel.ledger.tables import failures, nights, steps, transitions
from flywheel.records import FailureState, Json


class Wait(NamedTuple):
    """A failure from where its time counts."""

    since: datetime
    until: datetime | None
    """when a model served that answers it right; None: not yet"""


def night_starts(connection: Connection) -> list[tuple[int, datetime]]:
    """Every night and when it began, oldest first."""
    query = select(nights.c.number, nights.c.started_at).order_by(nights.c.number)
    return [(int(row.number), row.started_at) for row in connection.execute(query)]


def results_of(
    connection: Connection, step: str, numbers: Sequence[int] | None = None
) -> dict[int, Json]:
    """Night -> what a step of it came to, as it is stored, oldest first; default: of all nights."""
    query = select(steps.c.night, steps.c.result).where(steps.c.name == step)
    if numbers is not None:
        query = query.where(steps.c.night.in_(numbers))
    rows = connection.execute(query.order_by(steps.c.night))
    return {int(row.night): row.result for row in rows}


def moves_by_night(connection: Connection) -> dict[int, dict[FailureState, int]]:
    """Night -> how many failures came to each state in it; what came between nights is missing."""
    query = (
        select(transitions.c.night, transitions.c.state, func.count().label("number"))
        .where(transitions.c.night.is_not(None))
        .group_by(transitions.c.night, transitions.c.state)
        .order_by(transitions.c.night)
    )
    found: dict[int, dict[FailureState, int]] = {}
    for row in connection.execute(query):
        found.setdefault(int(row.night), {})[FailureState(row.state)] = int(row.number)
    return found


def waits(
    connection: Connection, start: FailureState, since_night: int, limit: int
) -> Mapping[str, Wait]:
    """Sample -> its wait, of the newest failures that came to a state since a night."""
    began = _times(connection, start, since_night, limit)
    fixed = _times(connection, FailureState.FIXED, since_night, None)
    return {key: Wait(at, fixed.get(key)) for key, at in began.items()}


def newest_failures(connection: Connection, limit: int) -> dict[str, FailureState]:
    """Sample -> state that it has now, of the failures that were seen last."""
    seen = (
        select(transitions.c.sample_id)
        .where(transitions.c.state == FailureState.SEEN.value)
        .order_by(transitions.c.seq.desc())
        .limit(limit)
        .subquery()
    )
    query = select(failures.c.sample_id, failures.c.state).join(
        seen, seen.c.sample_id == failures.c.sample_id
    )
    return {row.sample_id: FailureState(row.state) for row in connection.execute(query)}


def _times(
    connection: Connection, state: FailureState, since_night: int, limit: int | None
) -> dict[str, datetime]:
    """When samples first came to a state, of its newest transitions."""
    query = (
        select(transitions.c.sample_id, transitions.c.at)
        .where(transitions.c.night >= since_night, transitions.c.state == state.value)
        .order_by(transitions.c.seq.desc())
        .limit(limit)
    )
    return {row.sample_id: row.at for row in connection.execute(query)}
