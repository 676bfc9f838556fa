"""What production answered and what people say of it: the chosen samples that came back labeled.

Only what was logged is read, never an answer made later. What an answer is worth is not known here.
"""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import Connection, Subquery, func, select

from flywheel.ledger.tables import batches, choices, labels, predictions, samples
from flywheel.records import SENSOR, Json, Share


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
    """The samples of all batches from a night on that people labeled, by sample id.

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
