"""Challenges and the labels that each of them saw first: the books of the error budget.

A label that no challenge has opened is sealed: no decision has seen it. Refuses to know when a
challenge may open and what it decides.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict
from typing import NamedTuple

from sqlalchemy import Connection, select, update

from flywheel.ledger.tables import challenges, decisions, openings
from flywheel.ledger.writing import insert_new
from flywheel.records import Challenge


class Opening(NamedTuple):
    """Which challenge saw a label first, and in which night."""

    generation: int
    number: int
    night: int


def open_challenge(
    connection: Connection, challenge: Challenge, sample_ids: Iterable[str], night: int
) -> None:
    """Store a challenge, and the labels that it sees from this night on; twice changes nothing."""
    connection.execute(insert_new(connection, challenges), asdict(challenge))
    rows = [
        {
            "sample_id": sample_id,
            "generation": challenge.generation,
            "number": challenge.number,
            "night": night,
        }
        for sample_id in sample_ids
    ]
    if rows:
        connection.execute(insert_new(connection, openings), rows)


def close_challenge(connection: Connection, challenge: Challenge, night: int) -> None:
    """Mark a challenge as decided or given up; one that is closed stays as it is."""
    mine = (
        challenges.c.generation == challenge.generation,
        challenges.c.number == challenge.number,
        challenges.c.closed_night.is_(None),
    )
    connection.execute(update(challenges).where(*mine).values(closed_night=night))


def last_challenge(connection: Connection) -> tuple[Challenge, bool] | None:
    """The newest challenge and whether it is closed; None before the first."""
    query = select(challenges).order_by(challenges.c.generation.desc(), challenges.c.number.desc())
    row = connection.execute(query.limit(1)).mappings().first()
    if row is None:
        return None
    fields = {name: value for name, value in row.items() if name != "closed_night"}
    return Challenge(**fields), row["closed_night"] is not None


def all_openings(connection: Connection) -> dict[str, Opening]:
    """Sample id -> its opening, for every label that a decision has seen."""
    return {
        row.sample_id: Opening(row.generation, row.number, row.night)
        for row in connection.execute(select(openings))
    }


def mean_uses(connection: Connection, opened: Mapping[str, Opening], tonight: int) -> float:
    """In how many decisions a label has been used on average, tonight's included; 0 without any."""
    query = select(decisions.c.night).where(decisions.c.needed_e_value.is_not(None)).distinct()
    nights = {*connection.execute(query.where(decisions.c.night < tonight)).scalars(), tonight}
    uses = [sum(night >= opening.night for night in nights) for opening in opened.values()]
    return sum(uses) / len(uses) if uses else 0.0
