"""Batches: what was chosen for annotation, why, and with which inclusion probability.

The file also reads how each sample of the probability share was drawn, and the chosen samples that came
back labeled. Only logged predictions are read, never an answer made later.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple

from sqlalchemy import Connection, Subquery, func, insert, select

from flywheel.ledger.annotations import newest_of_each
from flywheel.ledger.codec import from_row, to_row
from flywheel.ledger.outbox import Asked, enqueue
from flywheel.ledger.samples import groups_of
from flywheel.ledger.tables import (
    batches,
    choices,
    labeling_tasks,
    labels,
    predictions,
    samples,
    trained,
)
from flywheel.records import SENSOR, Batch, Json, Purpose, Share, Split


class Origin(NamedTuple):
    """How a sample was chosen for labeling."""

    share: Share
    inclusion_probability: float | None


class DrawnSample(NamedTuple):
    """A sample of the probability share, labeled or not."""

    sample_id: str
    group: str
    split: Split
    """TEST: its group can only ever test"""
    night: int
    """of its draw"""


class BatchSize(NamedTuple):
    """A stored batch in numbers."""

    id: str
    population: int
    num_chosen: dict[Share, int]


def add_batch(connection: Connection, batch: Batch) -> None:
    """Store a batch, and for each sample the labeling task that is to be sent."""
    connection.execute(insert(batches), to_row(batches, batch))
    if not batch.choices:
        return
    rows = [to_row(choices, choice, batch_id=batch.id) for choice in batch.choices]
    connection.execute(insert(choices), rows)
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
    """The first batch that a night stored since a time; None when it stored none.

    What was drawn at the same time from earlier production is counted with it.
    """
    mine = (batches.c.night == night, batches.c.created_at >= since)
    query = select(batches.c.id, batches.c.population, batches.c.created_at).where(*mine)
    ordered = query.order_by(batches.c.created_at, batches.c.population.desc(), batches.c.id)
    row = connection.execute(ordered.limit(1)).first()
    if row is None:
        return None
    shares = select(choices.c.share).join(batches, batches.c.id == choices.c.batch_id)
    together = (batches.c.night == night, batches.c.created_at == row.created_at)
    chosen = list(connection.execute(shares.where(*together)).scalars())
    return BatchSize(
        id=row.id,
        population=row.population,
        num_chosen={share: chosen.count(share) for share in Share},
    )


def has_batch(connection: Connection, night: int) -> bool:
    """Whether a night has stored a batch."""
    query = select(batches.c.id).where(batches.c.night == night).limit(1)
    return connection.execute(query).first() is not None


def origins(connection: Connection) -> dict[str, Origin]:
    """How each sample that was ever chosen was drawn."""
    query = select(choices.c.sample_id, choices.c.share, choices.c.inclusion_probability)
    return {row.sample_id: from_row(Origin, row) for row in connection.execute(query)}


def drawn_samples(connection: Connection) -> list[DrawnSample]:
    """The samples of the probability share whose group no model was trained on, newest batch first."""
    query = (
        select(choices.c.sample_id, samples.c.group, samples.c.split, batches.c.night)
        .join(batches, batches.c.id == choices.c.batch_id)
        .join(samples, samples.c.id == choices.c.sample_id)
        .outerjoin(trained, trained.c.group == samples.c.group)
        .where(choices.c.share == Share.PROBABILITY, trained.c.group.is_(None))
        .order_by(batches.c.night.desc(), choices.c.sample_id)
    )
    return [from_row(DrawnSample, row) for row in connection.execute(query)]


def asked_samples(connection: Connection) -> set[str]:
    """The chosen samples that annotators are still to label."""
    query = select(labeling_tasks.c.sample_id).where(
        labeling_tasks.c.purpose == Purpose.CHOICE,
        labeling_tasks.c.state.in_(("waiting", "sent")),
    )
    return set(connection.execute(query).scalars())


def held_groups(connection: Connection, drawn: Sequence[str]) -> set[str]:
    """Groups that do not train for now: of these and of all drawn samples that no model was trained on."""
    known = {one.group for one in drawn_samples(connection)}
    return known.union(groups_of(connection, drawn).values())


def newest_choices(connection: Connection, limit: int) -> list[tuple[str, str]]:
    """The sample and the prediction of the newest chosen samples."""
    query = (
        select(choices.c.sample_id, choices.c.prediction_id)
        .join(batches, batches.c.id == choices.c.batch_id)
        .order_by(batches.c.created_at.desc(), choices.c.sample_id)
        .limit(limit)
    )
    return [(row.sample_id, row.prediction_id) for row in connection.execute(query)]


def targeted_of(connection: Connection, night: int) -> list[str]:
    """The samples of the targeted share that a night has chosen so far."""
    query = (
        select(choices.c.sample_id)
        .join(batches, batches.c.id == choices.c.batch_id)
        .where(batches.c.night == night, choices.c.share == Share.TARGETED)
        .order_by(choices.c.sample_id)
    )
    return list(connection.execute(query).scalars())


def draw_scales(
    connection: Connection, pair: tuple[str, str] | None = None, min_gain: float = 0.0
) -> dict[str, float]:
    """Sample id -> the constant of its draw / its own inclusion probability.

    The constant is the least probability that its batch could give; of a batch that does not say it,
    the least among those drawn. If the draw leant to where this challenger, or another too, and the
    champion differ, it is the least among those: elsewhere neither gains. Then a scale is above 1
    where they agree.

    Args:
        connection: to the ledger.
        pair: digests of challenger and champion; None: their gains are not known to be 0 anywhere.
        min_gain: what counts as no gain, which bounds the constant where they agree, too.
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
        select(
            choices.c.sample_id,
            choices.c.inclusion_probability.label("own"),
            least.label("least"),
            batches.c.least_differing,
            batches.c.challengers,
            batches.c.champion_digest,
        )
        .join(batches, batches.c.id == choices.c.batch_id)
        .join(observed, observed.c.batch_id == choices.c.batch_id)
        .where(drawn)
    )
    scales = {}
    for row in connection.execute(query):
        scales[row.sample_id] = min(row.least / row.own, 1.0)
        leant = [(one, row.champion_digest) for one in row.challengers or ()]
        if row.least_differing and pair in leant:
            most = row.least * (1 + min_gain) / min_gain if min_gain > 0 else math.inf
            scales[row.sample_id] = min(row.least_differing, most) / row.own
    return scales


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
    newest = newest_of_each(labels.c.sample_id.in_(select(chosen.c.sample_id)))
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
    return [from_row(LabeledChoice, row) for row in connection.execute(query)]


def draws_since(connection: Connection, since_night: int) -> list[Drawn]:
    """The draws from new production of all batches from a night on, oldest first."""
    query = (
        select(batches, batches.c.id.label("batch_id"))
        .where(batches.c.night >= since_night, batches.c.population > 0)
        .order_by(batches.c.night, batches.c.created_at, batches.c.id)
    )
    return [from_row(Drawn, row) for row in connection.execute(query)]


def unanswered_draws(connection: Connection, since_night: int) -> dict[str, float]:
    """Batch -> sum of 1 / inclusion probability of drawn samples that are finished without a label.

    Their annotators gave no answer of the task, skipped them or did not agree.
    """
    chosen = _chosen_since(since_night)
    labeled = select(labels.c.sample_id).where(
        labels.c.seq.in_(newest_of_each()), labels.c.answer.is_not(None), labels.c.source != SENSOR
    )
    query = (
        select(chosen.c.batch_id, func.sum(1.0 / chosen.c.inclusion_probability).label("mass"))
        .join(labeling_tasks, labeling_tasks.c.sample_id == chosen.c.sample_id)
        .where(
            chosen.c.inclusion_probability.is_not(None),
            chosen.c.sample_id.not_in(labeled),
            labeling_tasks.c.purpose == Purpose.CHOICE,
            labeling_tasks.c.state.in_(("done", "refused")),
        )
        .group_by(chosen.c.batch_id)
    )
    return {row.batch_id: float(row.mass) for row in connection.execute(query)}


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
