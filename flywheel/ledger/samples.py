"""Samples as they are stored: a row in the ledger, the payload in the blobs or on its way there."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any, NamedTuple

from sqlalchemy import Connection, Row, select

from flywheel.blobs import Blobs
from flywheel.errors import FlywheelError, UnavailableError, UnknownIdError
from flywheel.ledger.payloads import kept_payloads
from flywheel.ledger.tables import samples
from flywheel.ledger.writing import insert_new
from flywheel.records import Sample, Split

_CHUNK = 500


class Placed(NamedTuple):
    """A sample with its group and the split that the group belongs to."""

    sample: Sample
    group: str
    split: Split


def add_samples(connection: Connection, placed: Iterable[Placed], now: datetime) -> None:
    """Store the rows of samples that are not known yet, and no payloads."""
    rows = [_row(item, now) for item in placed]
    if rows:
        connection.execute(insert_new(connection, samples), rows)


def load_samples(connection: Connection, blobs: Blobs, sample_ids: Sequence[str]) -> list[Sample]:
    """Samples with their payloads, in the order asked for.

    Raises:
        UnknownIdError: the ledger or the blobs do not hold one of them.
    """
    rows = _rows(connection, sample_ids)
    missing = next((key for key in sample_ids if key not in rows), None)
    if missing is not None:
        raise UnknownIdError(f"no sample {missing} in the ledger; flywheel trace takes a known id")
    payloads = _kept(connection, sample_ids)
    payloads |= blobs.get_all([key for key in rows if key not in payloads])
    return [
        Sample(
            id=key,
            payload=payloads[key],
            media_type=rows[key].media_type,
            metadata=dict(rows[key].metadata),
        )
        for key in sample_ids
    ]


def load_each(
    connection: Connection, blobs: Blobs, sample_ids: Sequence[str]
) -> tuple[dict[str, Sample], dict[str, str]]:
    """Samples by id, those that can be loaded; and why the others cannot.

    Raises:
        UnavailableError: the blobs do not answer, which says nothing of any sample.
    """
    try:
        return {one.id: one for one in load_samples(connection, blobs, sample_ids)}, {}
    except UnavailableError:
        raise
    except FlywheelError as error:
        if len(sample_ids) == 1:
            return {}, {sample_ids[0]: str(error)}
    loaded, faults = dict[str, Sample](), dict[str, str]()
    for key in sample_ids:
        one, fault = load_each(connection, blobs, [key])
        loaded |= one
        faults |= fault
    return loaded, faults


def groups_of(connection: Connection, sample_ids: Sequence[str]) -> dict[str, str]:
    """The group of each sample."""
    return {key: row.group for key, row in _rows(connection, sample_ids).items()}


def _kept(connection: Connection, sample_ids: Sequence[str]) -> dict[str, bytes]:
    found: dict[str, bytes] = {}
    for start in range(0, len(sample_ids), _CHUNK):
        found |= kept_payloads(connection, sample_ids[start : start + _CHUNK])
    return found


def _rows(connection: Connection, sample_ids: Sequence[str]) -> dict[str, Row[Any]]:
    found = {}
    for start in range(0, len(sample_ids), _CHUNK):
        query = select(samples).where(samples.c.id.in_(sample_ids[start : start + _CHUNK]))
        for row in connection.execute(query):
            found[row.id] = row
    return found


def _row(item: Placed, now: datetime) -> dict[str, object]:
    return {
        "id": item.sample.id,
        "media_type": item.sample.media_type,
        "metadata": item.sample.metadata,
        "group": item.group,
        "split": item.split.value,
        "created_at": now,
    }
