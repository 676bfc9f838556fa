"""Batches: what was chosen for labeling, why, and at whose expense."""

from __future__ import annotations

from datetime import datetime
from typing import NamedTuple

from sqlalchemy import Connection, insert, select

from flywheel.ledger.outbox import Asked, enqueue
from flywheel.ledger.tables import batches, choices
from flywheel.records import Batch, Purpose, Share


class Origin(NamedTuple):
    """How a sample came to be labeled."""

    share: Share
    inclusion_probability: float | None


class BatchSize(NamedTuple):
    """A stored batch in numbers."""

    id: str
    population: int
    num_chosen: dict[Share, int]


def add_batch(connection: Connection, batch: Batch) -> None:
    """Store a batch, and for each sample the labeling task that is to be sent."""
    row = {
        "id": batch.id,
        "night": batch.night,
        "population": batch.population,
        "mean_confidence": batch.mean_confidence,
        "least_probability": batch.least_probability,
        "created_at": batch.created_at,
    }
    connection.execute(insert(batches), row)
    if not batch.choices:
        return
    connection.execute(
        insert(choices),
        [
            {
                "sample_id": choice.sample_id,
                "batch_id": batch.id,
                "prediction_id": choice.prediction_id,
                "share": choice.share.value,
                "reason": choice.reason,
                "priority": choice.priority,
                "inclusion_probability": choice.inclusion_probability,
            }
            for choice in batch.choices
        ],
    )
    asked = (
        Asked(
            sample_id=choice.sample_id,
            purpose=Purpose.CHOICE,
            people=choice.people,
            priority=choice.priority,
        )
        for choice in batch.choices
    )
    enqueue(connection, asked, batch.night, batch.created_at)


def batch_since(connection: Connection, night: int, since: datetime) -> BatchSize | None:
    """The first batch that a night stored since a time; None when it stored none."""
    mine = (batches.c.night == night, batches.c.created_at >= since)
    query = select(batches.c.id, batches.c.population).where(*mine)
    row = connection.execute(query.order_by(batches.c.created_at, batches.c.id).limit(1)).first()
    if row is None:
        return None
    shares = select(choices.c.share).where(choices.c.batch_id == row.id)
    chosen = list(connection.execute(shares).scalars())
    return BatchSize(
        id=row.id,
        population=row.population,
        num_chosen={share: chosen.count(share.value) for share in Share},
    )


def origins(connection: Connection) -> dict[str, Origin]:
    """How each sample that was ever chosen came to be."""
    query = select(choices.c.sample_id, choices.c.share, choices.c.inclusion_probability)
    return {
        row.sample_id: Origin(
            share=Share(row.share), inclusion_probability=row.inclusion_probability
        )
        for row in connection.execute(query)
    }
