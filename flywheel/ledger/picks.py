"""Single predictions by their places in the log, for whoever looks at a sample of it.

Costs what is asked for, however long the log is. What is looked for in them is not known here.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from sqlalchemy import Connection, select

from flywheel.ledger.tables import predictions, samples
from flywheel.records import Array

_CHUNK = 500  # places in one IN (...): both databases limit the parameters of a statement


class Pick(NamedTuple):
    """What a model said once, without the answer."""

    model_digest: str
    group: str
    """of its sample"""
    confidence: float
    embedding: Array
    """(D,) float32"""


def picked(connection: Connection, places: Sequence[int]) -> list[Pick]:
    """The predictions at these places, oldest first; a place without one is passed over."""
    query = (
        select(
            predictions.c.model_digest,
            samples.c.group,
            predictions.c.confidence,
            predictions.c.embedding,
        )
        .join(samples, samples.c.id == predictions.c.sample_id)
        .order_by(predictions.c.seq)
    )
    found: list[Pick] = []
    for start in range(0, len(places), _CHUNK):
        here = query.where(predictions.c.seq.in_(places[start : start + _CHUNK]))
        found += [
            Pick(
                model_digest=row.model_digest,
                group=row.group,
                confidence=row.confidence,
                embedding=np.frombuffer(row.embedding, dtype="<f4"),
            )
            for row in connection.execute(here)
        ]
    return found
