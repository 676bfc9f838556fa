"""Samples: a row in the ledger, the payload among the blobs or on its way there.

Small payloads arrive in the ledger with their predictions, in one transaction and so with one wait
for the disk, and stay readable there until the night has moved them to the blobs. Larger ones go to
the blobs at once. A user may name a sample by its id, the beginning of one, or a request id.

The group of a sample and its side of the split follow from the sample alone, so that they are fixed
before its label is known, and stay fixed in whatever order samples come.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple, overload

from sqlalchemy import Connection, Row, Select, delete, select

from flywheel.blobs import Blobs
from flywheel.errors import FlywheelError, UnavailableError, UnknownIdError, UserError
from flywheel.ledger.codec import from_row, to_row
from flywheel.ledger.dialects import in_parts, insert_new
from flywheel.ledger.engine import Ledger
from flywheel.ledger.tables import payloads, predictions, samples
from flywheel.records import Json, Sample, Split, canonical

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
        connection.execute(insert_new(payloads), rows)


def kept_payloads(connection: Connection, sample_ids: Sequence[str]) -> dict[str, bytes]:
    """The payloads that are still in the ledger; all others are in the blobs by then."""
    return {
        row.sample_id: row.data
        for part in in_parts(sample_ids)
        for row in connection.execute(select(payloads).where(payloads.c.sample_id.in_(part)))
    }


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


class Placed(NamedTuple):
    """A sample with its group and the split that the group belongs to."""

    sample: Sample
    group: str
    split: Split


def add_samples(connection: Connection, placed: Iterable[Placed], now: datetime) -> None:
    """Store the rows of samples that are not known yet, and no payloads."""
    rows = [
        to_row(samples, one.sample, group=one.group, split=one.split, created_at=now)
        for one in placed
    ]
    if rows:
        connection.execute(insert_new(samples), rows)


def load_samples(connection: Connection, blobs: Blobs, sample_ids: Sequence[str]) -> list[Sample]:
    """Samples with their payloads, in the order asked for.

    Raises:
        UnknownIdError: the ledger or the blobs do not hold one of them.
    """
    rows = _rows(connection, select(samples), sample_ids)
    missing = next((key for key in sample_ids if key not in rows), None)
    if missing is not None:
        raise UnknownIdError(f"no sample {missing} in the ledger; flywheel trace takes a known id")
    payloads = kept_payloads(connection, sample_ids)
    payloads |= blobs.get_all([key for key in rows if key not in payloads])
    return [
        from_row(Sample, rows[key], payload=payloads[key], metadata=dict(rows[key].metadata))
        for key in sample_ids
    ]


class StoredSamples(Sequence[Sample]):
    """Samples of a ledger by number; payloads are read in blocks when they are asked for.

    It is safe to ask from several threads. A sample whose bytes are gone raises as `load_samples` does.
    """

    def __init__(self, ledger: Ledger, blobs: Blobs, sample_ids: Sequence[str]) -> None:
        self._ledger, self._blobs, self._ids = ledger, blobs, list(sample_ids)
        self._block: tuple[int, list[Sample]] = (-1, [])

    def __len__(self) -> int:
        return len(self._ids)

    @overload
    def __getitem__(self, place: int) -> Sample: ...
    @overload
    def __getitem__(self, place: slice) -> list[Sample]: ...
    def __getitem__(self, place: int | slice) -> Sample | list[Sample]:
        if isinstance(place, slice):
            return self._load(self._ids[place])
        place = range(len(self._ids))[place]
        number, row = divmod(place, _PIECE)
        block = self._block  # read once: another thread may put its own there
        if block[0] != number:
            block = (number, self._load(self._ids[number * _PIECE : (number + 1) * _PIECE]))
            self._block = block
        return block[1][row]

    def pick(self, places: Iterable[int]) -> StoredSamples:
        """Some of the samples, in the order asked for; nothing is read."""
        return StoredSamples(self._ledger, self._blobs, [self._ids[place] for place in places])

    def _load(self, sample_ids: Sequence[str]) -> list[Sample]:
        with self._ledger.read() as connection:
            return load_samples(connection, self._blobs, sample_ids)


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
    query = select(samples.c.id, samples.c.group)
    return {key: row.group for key, row in _rows(connection, query, sample_ids).items()}


def sides_of(connection: Connection, sample_ids: Sequence[str]) -> dict[str, Split]:
    """The split of each sample that is known."""
    query = select(samples.c.id, samples.c.split)
    return {key: row.split for key, row in _rows(connection, query, sample_ids).items()}


def _rows(
    connection: Connection, query: Select[Any], sample_ids: Sequence[str]
) -> dict[str, Row[Any]]:
    return {
        row.id: row
        for part in in_parts(sample_ids)
        for row in connection.execute(query.where(samples.c.id.in_(part)))
    }


_ID_CHARACTERS = 32  # width of the ledger's column


def prediction_id(request_id: str) -> str:
    """The id of a prediction in the ledger: the request id, or its hash where it is too long."""
    if len(request_id) <= _ID_CHARACTERS:
        return request_id
    return hashlib.sha256(request_id.encode()).hexdigest()[:_ID_CHARACTERS]


_FEWEST_CHARACTERS = 4
_SHA256_CHARACTERS = 64


def find_sample(connection: Connection, key: str) -> str:
    """The sample that an id, the beginning of one, or a request id means.

    Raises:
        UnknownIdError: nothing has this id.
        UserError: several samples begin like this.
    """
    query = select(predictions.c.sample_id).where(predictions.c.id == prediction_id(key))
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


_MAX_GROUP_CHARACTERS = 200  # width of the ledger's column
_HASH_BYTES = 8


def group_of(metadata: Mapping[str, Json], sample_id: str, key: str | None) -> str:
    """The group of a sample: its metadata under `key` as text, else the sample's own id.

    A null counts as absent. A text longer than the ledger's column is replaced by its SHA-256.
    """
    value = None if key is None else metadata.get(key)
    if value is None:
        return sample_id
    text = value if isinstance(value, str) else canonical(value)
    if len(text) <= _MAX_GROUP_CHARACTERS:
        return text
    return hashlib.sha256(text.encode()).hexdigest()


def split_of(project_name: str, group: str, test_groups: float) -> Split:
    """TEST for a share `test_groups` of all groups, by a hash that is uniform in [0, 1)."""
    digest = hashlib.sha256(f"{project_name}/{group}".encode()).digest()
    # 53 bits are what a float holds exactly: all 64 could round up to 1.0.
    fraction = (int.from_bytes(digest[:_HASH_BYTES], "big") >> 11) / 2**53
    return Split.TEST if fraction < test_groups else Split.TRAIN
