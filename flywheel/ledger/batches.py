"""Batches: what was chosen for annotation, why, and with which inclusion probability.

The file also reads how each sample of the probability share was drawn, and the chosen samples that came
back labeled. Only logged predictions are read, never an answer made later.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple

from sqlalchemy import Connection, Subquery, func, insert, select

from flywheel.ledger.outbox import Asked, enqueue
from flywheel.ledger.tables import batches, choices, labels, predictions, samples
from flywheel.records import SENSOR, Batch, Json, Purpose, Share


class Origin(NamedTuple):
    """How a sample was chosen for labeling."""

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
            num_annotators=choice.num_annotators,
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
    """How each sample that was ever chosen was drawn."""
    query = select(choices.c.sample_id, choices.c.share, choices.c.inclusion_probability)
    return {
        row.sample_id: Origin(
            share=Share(row.share), inclusion_probability=row.inclusion_probability
        )
        for row in connection.execute(query)
    }


def draw_scales(connection: Connection) -> dict[str, float]:
    """Sample id -> least inclusion probability that its batch could give / its own, in (0, 1].

    Of a batch that does not say the least one, it is the least among those drawn.
    """
    drawn = choices.c.inclusion_probability.is_not(None)
    observed = (
        select(choices.c.batch_id, func.min(choices.c.inclusion_probability).label("least"))
        .where(drawn)
        .group_by(choices.c.batch_id)
        .subquery()
    )
    least = func.coalesce(batches.c.least_probability, observed.c.least)
    query = (
        select(choices.c.sample_id, (least / choices.c.inclusion_probability).label("scale"))
        .join(batches, batches.c.id == choices.c.batch_id)
        .join(observed, observed.c.batch_id == choices.c.batch_id)
        .where(drawn)
    )
    return {row.sample_id: min(float(row.scale), 1.0) for row in connection.execute(query)}


@dataclass(frozen=True, kw_only=True, slots=True)
class LabeledChoice:
    """A chosen sample with the logged prediction it was chosen by and its label of today."""

    sample_id: str
    batch_id: str
    group: str
    answer: Json
    """logged: what production said"""
    confidence: float
    """logged, 0..1"""
    latency_ms: float
    """logged"""
    label: Json
    share: Share
    inclusion_probability: float | None
    """in (0, 1]; None for a targeted sample"""


@dataclass(frozen=True, kw_only=True, slots=True)
class Drawn:
    """A batch's draw of the probability share: how large and how sure the population was."""

    batch_id: str
    night: int
    population: int
    mean_confidence: float | None
    """of the population; None when it is empty or was not kept"""


def labeled_choices(connection: Connection, since_night: int) -> list[LabeledChoice]:
    """The samples of all batches from a night on that annotators labeled, by sample id.

    Labels that were withdrawn are out, and so are those of sensors.
    """
    chosen = _chosen_since(since_night)
    newest = (
        select(func.max(labels.c.seq))
        .where(labels.c.sample_id.in_(select(chosen.c.sample_id)))
        .group_by(labels.c.sample_id)
    )
    query = (
        select(
            chosen,
            samples.c.group,
            predictions.c.answer,
            predictions.c.confidence,
            predictions.c.latency_ms,
            labels.c.answer.label("label"),
        )
        .join(samples, samples.c.id == chosen.c.sample_id)
        .join(predictions, predictions.c.id == chosen.c.prediction_id)
        .join(labels, labels.c.sample_id == chosen.c.sample_id)
        .where(labels.c.seq.in_(newest), labels.c.answer.is_not(None), labels.c.source != SENSOR)
        .order_by(chosen.c.sample_id)
    )
    rows = connection.execute(query).mappings()
    names = LabeledChoice.__dataclass_fields__
    return [
        LabeledChoice(**{name: row[name] for name in names} | {"share": Share(row["share"])})
        for row in rows
    ]


def draws_since(connection: Connection, since_night: int) -> list[Drawn]:
    """The draws of all batches from a night on, oldest first."""
    query = (
        select(
            batches.c.id.label("batch_id"),
            batches.c.night,
            batches.c.population,
            batches.c.mean_confidence,
        )
        .where(batches.c.night >= since_night)
        .order_by(batches.c.night, batches.c.created_at, batches.c.id)
    )
    return [Drawn(**row) for row in connection.execute(query).mappings()]


def _chosen_since(night: int) -> Subquery:
    return (
        select(
            choices.c.sample_id,
            choices.c.prediction_id,
            choices.c.batch_id,
            choices.c.share,
            choices.c.inclusion_probability,
        )
        .join(batches, batches.c.id == choices.c.batch_id)
        .where(batches.c.night >= night)
        .subquery()
    )
