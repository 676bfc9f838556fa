"""What people did since a time, summed up where it is stored, however much that is.

Label Studio's clock runs while a labeling task is open; what was left open counts less. What a
second costs is not known here.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any, NamedTuple

from sqlalchemy import ColumnElement, Connection, case, func, select

from flywheel.ledger.tables import annotations as given


class Cut(NamedTuple):
    """When an annotation was left open, and what it counts then."""

    above: float
    """seconds"""
    counts: float
    """seconds"""


class Spent(NamedTuple):
    """What one person did since a time."""

    annotator: str
    num_annotations: int
    num_timed: int
    """of these, with a lead time"""
    seconds: float
    """of those together, what was left open cut"""


def spent_since(
    connection: Connection, since: datetime, cuts: Mapping[str, Cut], cut: Cut | None
) -> list[Spent]:
    """What everybody did since a time, by name.

    Args:
        connection: to the ledger.
        since: an annotation counts with its last change.
        cuts: person -> when their annotations were left open.
        cut: the same of everyone else; None is never.
    """
    query = (
        select(
            given.c.annotator,
            func.count().label("num_annotations"),
            func.count(given.c.lead_time_seconds).label("num_timed"),
            func.coalesce(func.sum(_counted(given.c.lead_time_seconds, cuts, cut)), 0.0).label(
                "seconds"
            ),
        )
        .where(given.c.updated_at >= since)
        .group_by(given.c.annotator)
        .order_by(given.c.annotator)
    )
    return [
        Spent(
            annotator=row.annotator,
            num_annotations=int(row.num_annotations),
            num_timed=int(row.num_timed),
            seconds=float(row.seconds),
        )
        for row in connection.execute(query)
    ]


def _counted(
    seconds: ColumnElement[Any], cuts: Mapping[str, Cut], cut: Cut | None
) -> ColumnElement[Any]:
    """The lead time, unless it was left open; no clock runs backwards."""
    if not cuts and cut is None:
        return case((seconds < 0, 0.0), else_=seconds)
    above = _of_person({name: one.above for name, one in cuts.items()}, cut and cut.above)
    counts = _of_person({name: one.counts for name, one in cuts.items()}, cut and cut.counts)
    return case((seconds < 0, 0.0), (seconds > above, counts), else_=seconds)


def _of_person(values: dict[str, float], other: float | None) -> Any:
    """Nothing is above what is unknown."""
    return case(values, value=given.c.annotator, else_=other) if values else other
