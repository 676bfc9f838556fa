"""How each sample of the probability share was drawn, on the scale that its batch allows.

Refuses to know what is bet on it.
"""

from __future__ import annotations

from sqlalchemy import Connection, func, select

from flywheel.ledger.tables import batches, choices


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
