"""The record of every checkpoint; the weights themselves are a blob of the same digest.

Adding one twice changes nothing: what came first stays.
"""

from __future__ import annotations

from sqlalchemy import Connection, insert, select

from flywheel.errors import UnknownIdError
from flywheel.ledger.codec import from_json, to_json
from flywheel.ledger.tables import checkpoints
from flywheel.records import Checkpoint


def add_checkpoint(connection: Connection, checkpoint: Checkpoint) -> None:
    """Store a checkpoint's record, once for each digest."""
    known = select(checkpoints.c.digest).where(checkpoints.c.digest == checkpoint.digest)
    if connection.execute(known).first() is None:
        row = {
            "digest": checkpoint.digest,
            "record": to_json(checkpoint),
            "created_at": checkpoint.created_at,
        }
        connection.execute(insert(checkpoints).values(row))


def get_checkpoint(connection: Connection, digest: str) -> Checkpoint:
    """The record of a digest.

    Raises:
        UnknownIdError: there is none.
    """
    query = select(checkpoints.c.record).where(checkpoints.c.digest == digest)
    record = connection.execute(query).scalar()
    if record is None:
        raise UnknownIdError(
            f"the ledger holds no checkpoint {digest}; flywheel status lists those that it holds"
        )
    return from_json(Checkpoint, record)


def latest_checkpoint(connection: Connection) -> Checkpoint | None:
    """The checkpoint that was trained last."""
    order = (checkpoints.c.created_at.desc(), checkpoints.c.digest)
    record = connection.execute(select(checkpoints.c.record).order_by(*order).limit(1)).scalar()
    return None if record is None else from_json(Checkpoint, record)
