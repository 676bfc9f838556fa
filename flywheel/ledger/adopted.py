"""Labeling tasks of a project in Label Studio that is not ours, by the samples that they are about.

Also which samples came with a label of somewhere else, so that annotators need not be asked again.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from sqlalchemy import ColumnElement, Connection, delete, exists, insert, or_, select

from flywheel.ledger.tables import adopted, labels
from flywheel.records import IMPORTED


class Adopted(NamedTuple):
    """A labeling task of another project."""

    external_id: int
    sample_id: str
    data_digest: str
    """of its data as they were when the sample was read"""


def adopted_tasks(connection: Connection, project: int) -> dict[int, Adopted]:
    """The labeling tasks of a project whose samples are known, by external id."""
    columns = (adopted.c[name] for name in Adopted._fields)
    rows = connection.execute(select(*columns).where(adopted.c.project == project)).mappings()
    return {row["external_id"]: Adopted(**row) for row in rows}


def add_adopted(connection: Connection, project: int, new: Iterable[Adopted]) -> None:
    """Store which samples labeling tasks are about; the newest counts."""
    rows = [{"project": project, **one._asdict()} for one in new]
    for row in rows:
        mine = (adopted.c.project == project, adopted.c.external_id == row["external_id"])
        connection.execute(delete(adopted).where(*mine))
    if rows:
        connection.execute(insert(adopted), rows)


def is_brought(sample_id: ColumnElement[str]) -> ColumnElement[bool]:
    """The condition that a sample came with its label, or is asked about in another project.

    What annotators say about a sample of the start data changes nothing.
    """
    came = labels.c.source.in_(("start", IMPORTED))
    return or_(
        exists().where(labels.c.sample_id == sample_id, came),
        exists().where(adopted.c.sample_id == sample_id),
    )
