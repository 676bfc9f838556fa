"""Which sample a person means by an id, the beginning of one, or a request id."""

from __future__ import annotations

from sqlalchemy import Connection, select

from flywheel.errors import UnknownIdError, UserError
from flywheel.ledger.tables import predictions, samples

_FEWEST_CHARACTERS = 4
_SHA256_CHARACTERS = 64


def find_sample(connection: Connection, key: str) -> str:
    """The sample that an id, the beginning of one, or a request id means.

    Raises:
        UnknownIdError: nothing has this id.
        UserError: several samples begin like this.
    """
    query = select(predictions.c.sample_id).where(predictions.c.id == key)
    of_request = connection.execute(query).scalar()
    if of_request is not None:
        return str(of_request)
    found = _samples_beginning_with(connection, key)
    if not found:
        raise UnknownIdError(
            f"no sample begins with {key!r} and no prediction has it as its id; give a sample's id, "
            f"at least its first {_FEWEST_CHARACTERS} characters, or a request_id from /predict"
        )
    if len(found) > 1:
        shown = ", ".join(sample_id[: len(key) + 6] for sample_id in found[:3])
        raise UserError(f"{key!r} begins several samples: {shown}, ...; give more characters")
    return found[0]


def _samples_beginning_with(connection: Connection, key: str) -> list[str]:
    """Up to three ids; a range on the primary key, which an index serves on every database."""
    if not _FEWEST_CHARACTERS <= len(key) <= _SHA256_CHARACTERS or set(key) - set(
        "0123456789abcdef"
    ):
        return []
    column = samples.c.id
    query = select(column).where(column >= key, column < key + "g").order_by(column).limit(3)
    return list(connection.execute(query).scalars())
