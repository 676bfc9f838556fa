"""Small payloads on their way to the blobs.

They come into the ledger with their predictions, in one transaction and so with one wait for
the disk, and stay readable there until the night has moved them. What they mean is not known
here; larger ones go to the blobs at once.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from sqlalchemy import Connection, delete, select

from flywheel.blobs import Blobs
from flywheel.ledger.engine import Ledger
from flywheel.ledger.tables import payloads
from flywheel.ledger.writing import insert_new
from flywheel.records import Sample

_SMALL_BYTES = 262_144  # above, writing twice costs more than waiting once more
_PIECE = 256  # payloads in memory together


def is_small(payload: bytes) -> bool:
    """Whether a payload may come by way of the ledger."""
    return len(payload) < _SMALL_BYTES


def keep_payloads(connection: Connection, samples: Iterable[Sample]) -> None:
    """Store the small payloads among these samples; the others must be in the blobs already."""
    rows = [
        {"sample_id": sample.id, "data": sample.payload}
        for sample in samples
        if is_small(sample.payload)
    ]
    if rows:
        connection.execute(insert_new(connection, payloads), rows)


def kept_payloads(connection: Connection, sample_ids: Sequence[str]) -> dict[str, bytes]:
    """The payloads that are still in the ledger; all others are in the blobs by then."""
    query = select(payloads.c.sample_id, payloads.c.data).where(
        payloads.c.sample_id.in_(sample_ids)
    )
    return {row.sample_id: row.data for row in connection.execute(query)}


def move_payloads(ledger: Ledger, blobs: Blobs) -> int:
    """Move what is kept in the ledger into the blobs; how many there were.

    A payload leaves the ledger only when the blobs have it durably, so a kill loses nothing.

    Raises:
        OSError: the blobs cannot be written; what is not moved stays in the ledger.
    """
    num_moved = 0
    while True:
        with ledger.read() as connection:
            rows = connection.execute(select(payloads).limit(_PIECE)).all()
        if not rows:
            return num_moved
        blobs.put_all(row.data for row in rows)
        moved = payloads.c.sample_id.in_([row.sample_id for row in rows])
        with ledger.begin() as connection:
            connection.execute(delete(payloads).where(moved))
        num_moved += len(rows)
