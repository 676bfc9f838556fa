"""Samples whose answer is known (for gold questions), and those in dispute (for experts)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from sqlalchemy import Connection, exists, select

from flywheel.ledger.annotations import newest_labels
from flywheel.ledger.codec import from_row
from flywheel.ledger.dialects import in_parts
from flywheel.ledger.requests import REFUSED
from flywheel.ledger.tables import choices, labeling_tasks, labels, predictions, requests, samples
from flywheel.records import ANNOTATORS, Json, Purpose, Share, Split

_SCANNED = 2000


class Asking(NamedTuple):
    """How far annotators have been asked about a sample."""

    state: str
    """of its labeling task"""
    num_annotators: int
    """annotators asked in all, second opinions included"""


class Held(NamedTuple):
    """A label that may train, held against what the model had said before there was one."""

    sample_id: str
    label: Json
    reliability: float
    """of the label"""
    answer: Json
    confidence: float


def gold_candidates(connection: Connection, min_reliability: float) -> tuple[list[str], list[str]]:
    """Samples whose label several annotators gave reliably enough, and those of the start data.

    Those that were gold already are out. Only the newest rows are looked at, 2,000 of each.
    """
    was_gold = exists().where(
        labeling_tasks.c.sample_id == labels.c.sample_id,
        labeling_tasks.c.purpose == Purpose.GOLD,
    )
    trusted = (
        labels.c.source == ANNOTATORS,
        labels.c.reliability >= min_reliability,
        labels.c.num_annotations >= 2,
        labels.c.answer.is_not(None),
    )
    found = []
    for rule in (trusted, (labels.c.source == "start",)):
        query = select(labels.c.sample_id).where(*rule, ~was_gold)
        rows = connection.execute(query.order_by(labels.c.seq.desc()).limit(_SCANNED)).scalars()
        found.append(sorted(set(rows)))
    newest = newest_labels(connection, found[0])
    still = [key for key in found[0] if newest[key].reliability >= min_reliability]
    return still, found[1]


def how_asked(connection: Connection, sample_ids: Sequence[str]) -> dict[str, Asking]:
    """How far annotators have been asked about chosen samples."""
    found: dict[str, Asking] = {}
    table = labeling_tasks.c
    for part in in_parts(sample_ids):
        query = select(table.sample_id, table.state, table.num_annotators).where(
            table.sample_id.in_(part), table.purpose == Purpose.CHOICE
        )
        for row in connection.execute(query):
            found[row.sample_id] = Asking(state=row.state, num_annotators=row.num_annotators)
        more = select(requests.c.sample_id, requests.c.num_annotators).where(
            requests.c.sample_id.in_(part),
            requests.c.purpose == Purpose.CHOICE,
            requests.c.reason != REFUSED,  # in place of an annotation that does not count
        )
        for row in connection.execute(more):
            asking = found[row.sample_id]
            found[row.sample_id] = asking._replace(
                num_annotators=asking.num_annotators + row.num_annotators
            )
    return found


def reviewed(connection: Connection, sample_ids: Sequence[str]) -> set[str]:
    """Those of the samples that went to the experts already."""
    found: set[str] = set()
    for part in in_parts(sample_ids):
        query = select(labeling_tasks.c.sample_id).where(
            labeling_tasks.c.sample_id.in_(part), labeling_tasks.c.purpose == Purpose.REVIEW
        )
        found.update(connection.execute(query).scalars())
    return found


def doubtable(connection: Connection, limit: int) -> list[Held]:
    """The newest labels of annotators on targeted samples that no expert has looked at.

    Those that test are left out: to look again only where the model contradicts would bend the
    test set towards the model.
    """
    was_reviewed = exists().where(
        labeling_tasks.c.sample_id == labels.c.sample_id,
        labeling_tasks.c.purpose == Purpose.REVIEW,
    )
    query = (
        select(labels.c.sample_id, predictions.c.answer, predictions.c.confidence)
        .join(samples, samples.c.id == labels.c.sample_id)
        .join(choices, choices.c.sample_id == labels.c.sample_id)
        .join(predictions, predictions.c.id == choices.c.prediction_id)
        .where(
            labels.c.source == ANNOTATORS,
            samples.c.split == Split.TRAIN,
            choices.c.share == Share.TARGETED,
            ~was_reviewed,
        )
        .order_by(labels.c.seq.desc())
        .limit(limit)
    )
    said = {row.sample_id: row for row in connection.execute(query)}
    newest = newest_labels(connection, list(said))
    return [
        from_row(Held, row, label=newest[key].answer, reliability=newest[key].reliability)
        for key, row in said.items()
        if newest[key].answer is not None
    ]


def logged_answers(connection: Connection, sample_ids: Sequence[str]) -> dict[str, Json]:
    """What the model said when each sample was chosen."""
    found: dict[str, Json] = {}
    for part in in_parts(sample_ids):
        query = (
            select(choices.c.sample_id, predictions.c.answer)
            .join(predictions, predictions.c.id == choices.c.prediction_id)
            .where(choices.c.sample_id.in_(part))
        )
        found.update((row.sample_id, row.answer) for row in connection.execute(query))
    return found
