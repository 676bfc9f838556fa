"""How long the log of predictions is, and how much of it no collection has read yet.

Counted by index; no prediction is read.
"""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import Connection, func, select

from flywheel.ledger.tables import predictions, watermarks


@dataclass(frozen=True, kw_only=True, slots=True)
class LogSize:
    """The log of predictions and how much of it no collection has read."""

    num_predictions: int
    num_uncollected: int


def measure_log(connection: Connection) -> LogSize:
    """How many predictions there are, and how many came after the last collection."""
    mark = select(watermarks.c.seq).where(watermarks.c.name == "predictions collected")
    collected = connection.execute(mark).scalar() or 0
    total = select(func.count()).select_from(predictions)
    return LogSize(
        num_predictions=connection.execute(total).scalar_one(),
        num_uncollected=connection.execute(total.where(predictions.c.seq > collected)).scalar_one(),
    )
