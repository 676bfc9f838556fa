"""What people answered beside what the model had said, and whether they saw it."""

from __future__ import annotations

from typing import NamedTuple

from sqlalchemy import Connection, and_, select

from flywheel.ledger.labeling import STANDS
from flywheel.ledger.tables import annotations as given
from flywheel.ledger.tables import choices, labeling_tasks, predictions
from flywheel.records import Json, Purpose


class Look(NamedTuple):
    """One person's answer on a chosen sample."""

    sample_id: str
    annotator: str
    answer: Json
    model_answer: Json
    """logged, when the sample was chosen"""
    shown: bool
    """whether the person was shown it; drawn by chance"""


def recent_looks(connection: Connection, limit: int) -> list[Look]:
    """The newest answers that stand on samples that were chosen, oldest first."""
    table = given.c
    query = (
        select(
            table.sample_id,
            table.annotator,
            table.answer,
            predictions.c.answer.label("model_answer"),
            labeling_tasks.c.shown,
        )
        .join(
            labeling_tasks,
            and_(
                labeling_tasks.c.sample_id == table.sample_id,
                labeling_tasks.c.purpose == table.purpose,
            ),
        )
        .join(choices, choices.c.sample_id == table.sample_id)
        .join(predictions, predictions.c.id == choices.c.prediction_id)
        .where(
            table.purpose == Purpose.CHOICE.value,
            *STANDS,
        )
        .order_by(table.updated_at.desc(), table.id.desc())
        .limit(limit)
    )
    return [Look(**row) for row in connection.execute(query).mappings()][::-1]
