"""Labels as they stand, and the dataset versions made of them.

A version's manifest is a blob of JSON lines, one row a line, whose hash is the version's id.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from datetime import datetime

from sqlalchemy import Connection, bindparam, delete, insert, select, update

from flywheel.blobs import Blobs
from flywheel.errors import UnknownIdError, UserError
from flywheel.ledger.annotations import newest_of_each
from flywheel.ledger.codec import from_row
from flywheel.ledger.dialects import in_parts, insert_new
from flywheel.ledger.samples import Placed, add_samples
from flywheel.ledger.tables import dataset_versions, labels, samples, trained
from flywheel.records import DatasetRow, DatasetVersion, Json, Label, Split, canonical


def add_labels(connection: Connection, new: Iterable[Label], now: datetime) -> None:
    """Append labels; the newest of a sample counts."""
    rows = [{**asdict(label), "created_at": now} for label in new]
    if rows:
        connection.execute(insert(labels), rows)


def current_labels(connection: Connection) -> list[tuple[Label, Split]]:
    """The newest label of each sample that has not been withdrawn, with the sample's split."""
    query = (
        select(labels, samples.c.split)
        .join(samples, samples.c.id == labels.c.sample_id)
        .where(labels.c.seq.in_(newest_of_each()), labels.c.answer.is_not(None))
        .order_by(labels.c.sample_id)
    )
    return [(from_row(Label, row), row.split) for row in connection.execute(query)]


def is_start_data_settled(connection: Connection) -> bool:
    """Whether the task's start data was taken in and any model has been trained since."""
    taken = select(labels.c.seq).where(labels.c.source == "start").limit(1)
    learned = select(trained.c.group).limit(1)
    return all(connection.execute(query).first() is not None for query in (taken, learned))


def start_data(connection: Connection) -> dict[str, tuple[Json, Split]]:
    """The answer and the split of each sample of the start data that was taken in."""
    query = (
        select(labels.c.sample_id, labels.c.answer, samples.c.split)
        .join(samples, samples.c.id == labels.c.sample_id)
        .where(labels.c.source == "start")
    )
    return {row.sample_id: (row.answer, row.split) for row in connection.execute(query)}


def replace_start_data(
    connection: Connection, placed: Sequence[Placed], new: Iterable[Label], now: datetime
) -> None:
    """Store start data in place of what there was; samples of both move to the new side."""
    before = start_data(connection)
    connection.execute(delete(labels).where(labels.c.source == "start"))
    moved = [
        {"key": one.sample.id, "side": one.split, "new_group": one.group}
        for one in placed
        if one.sample.id in before
    ]
    if moved:
        query = update(samples).where(samples.c.id == bindparam("key"))
        query = query.values(split=bindparam("side"), group=bindparam("new_group"))
        connection.execute(query, moved)
    add_samples(connection, placed, now)
    add_labels(connection, new, now)


def write_manifest(rows: Sequence[DatasetRow]) -> bytes:
    """The manifest's bytes: rows by sample id, so that equal rows give equal bytes."""
    ordered = sorted(rows, key=lambda row: row.sample_id)
    return "".join(canonical(asdict(row)) + "\n" for row in ordered).encode()


def read_manifest(blobs: Blobs, version_id: str) -> list[DatasetRow]:
    """The rows of a version."""
    lines = blobs.get(version_id).decode().splitlines()
    return [_manifest_row(json.loads(line)) for line in lines]


def add_version(connection: Connection, version: DatasetVersion) -> None:
    """Store a version as the newest; one that is known keeps its parent and its time."""
    known = select(dataset_versions).where(dataset_versions.c.id == version.id)
    row = connection.execute(known).first()
    if row is not None:  # labels went back to what they were: its row moves to the end
        version = from_row(DatasetVersion, row)
        connection.execute(delete(dataset_versions).where(dataset_versions.c.id == version.id))
    connection.execute(insert(dataset_versions), asdict(version))


def get_version(connection: Connection, version_id: str) -> DatasetVersion:
    """A version by its id.

    Raises:
        UnknownIdError: it is not in the ledger.
    """
    query = select(dataset_versions).where(dataset_versions.c.id == version_id)
    row = connection.execute(query).first()
    if row is None:
        raise UnknownIdError(f"no dataset version {version_id}; flywheel status names the newest")
    return from_row(DatasetVersion, row)


def find_version(connection: Connection, prefix: str) -> DatasetVersion:
    """The version whose id begins like this; "latest" is the newest.

    Raises:
        UnknownIdError: there is none.
        UserError: several begin like this.
    """
    if prefix == "latest":
        newest = latest_version(connection)
        if newest is None:
            raise UnknownIdError("there is no dataset version yet; flywheel night makes the first")
        return newest
    mine = dataset_versions.c.id.startswith(prefix, autoescape=True)
    query = select(dataset_versions).where(mine).order_by(dataset_versions.c.seq).limit(2)
    rows = connection.execute(query).all()
    if not rows or not prefix:
        raise UnknownIdError(
            f"no dataset version begins with {prefix!r}; flywheel status names the newest"
        )
    if len(rows) > 1:
        raise UserError(f"{prefix!r} begins several dataset versions; give more characters")
    return from_row(DatasetVersion, rows[0])


def latest_version(connection: Connection) -> DatasetVersion | None:
    """The newest version."""
    query = select(dataset_versions).order_by(dataset_versions.c.seq.desc()).limit(1)
    row = connection.execute(query).first()
    return None if row is None else from_row(DatasetVersion, row)


def add_trained(connection: Connection, groups: Iterable[str], night: int) -> None:
    """Note that a model was trained on these groups; the first night of each stays."""
    rows = [{"group": group, "night": night} for group in sorted(set(groups))]
    if rows:
        connection.execute(insert_new(trained), rows)


def trained_groups(connection: Connection, groups: Iterable[str]) -> set[str]:
    """Those of some groups that any model was trained on."""
    found = set[str]()
    for part in in_parts(sorted(set(groups))):
        query = select(trained.c.group).where(trained.c.group.in_(part))
        found.update(connection.execute(query).scalars())
    return found


def _manifest_row(fields: dict[str, object]) -> DatasetRow:
    return DatasetRow(**{**fields, "split": Split(fields["split"])})  # type: ignore[arg-type]  # read from JSON
