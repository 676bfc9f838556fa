"""Segments: predictions that are durable in a file, and that the ledger has not taken in yet.

An answer waits for one write and one wait for the disk, whatever database the ledger is. A segment is
a file to which one process appends; a command that opens the ledger takes segments in first, so that
those of a server that was killed are read too. A prediction that is in the ledger is passed over, so
it does not matter how often a segment is read, or by how many at once.

A segment is a row of frames: length and CRC-32 of what follows, then as much JSON as its first four
bytes say, then embeddings and payloads. What is cut off at the end was never acknowledged.
"""

from __future__ import annotations

import fcntl
import json
import logging
import os
import struct
import time
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any
from uuid import uuid4

from sqlalchemy import Connection, select
from sqlalchemy.exc import DataError, IntegrityError

from flywheel.blobs import sync
from flywheel.ledger.dialects import in_parts, keep_commit_order
from flywheel.ledger.engine import Ledger
from flywheel.ledger.nights import add_skip
from flywheel.ledger.predictions import (
    Logged,
    append_predictions,
    read_embedding,
    write_embedding,
)
from flywheel.ledger.samples import is_small
from flywheel.ledger.tables import predictions
from flywheel.project import Project
from flywheel.records import Prediction, Sample, Split

_LOGGER = logging.getLogger(__name__)
_HEAD = struct.Struct("<II")
_SIZE = struct.Struct("<I")
_BLOCK_BYTES = 8_000_000  # taken in with one transaction


@dataclass(frozen=True, kw_only=True, slots=True)
class Entry:
    """One prediction to store."""

    row: Logged
    fault: str | None
    """what was not finite in the answer; stored as the reason of a skip"""


class Segment:
    """The file that one process appends to, locked as long as it does; not thread-safe."""

    def __init__(self, folder: Path) -> None:
        name = f"{time.time_ns():020d}-{uuid4().hex[:8]}"
        self.path = folder / f"{name}.log"
        draft = folder / f".{name}"
        self._file = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND, 0o600)
        # Locked before it has its name: a segment without a lock is one that may be removed.
        fcntl.flock(self._file, fcntl.LOCK_EX)
        draft.rename(self.path)
        sync(folder)
        self._inode = os.fstat(self._file).st_ino
        self.size = 0

    def append(self, entries: Sequence[Entry]) -> None:
        """Add predictions; on return they survive a power failure.

        Raises:
            OSError: they could not be stored, and are not in the segment.
        """
        frame = _frame(entries)
        if os.stat(self.path).st_ino != self._inode:  # noqa: PTH116  it is quick
            raise FileNotFoundError(f"{self.path} was replaced")
        try:
            view = memoryview(frame)
            while view:
                view = view[os.write(self._file, view) :]
            os.fdatasync(self._file)
        except OSError:
            os.ftruncate(self._file, self.size)
            raise
        self.size += len(frame)

    def close(self) -> None:
        """End the segment; from then on it is removed once it is in the ledger."""
        os.close(self._file)


def log_folder(project: Project) -> Path:
    """Return the folder of a project's segments."""
    return project.state / "predictions"


def take_in(ledger: Ledger, folder: Path) -> int:
    """Add to the ledger what the segments of a folder hold, and remove those that have ended.

    Returns how many predictions were new. Several may do it at once.

    Raises:
        UnavailableError: the ledger cannot be written; all that is not in it stays.
    """
    num_new = 0
    for path in sorted(folder.glob("*.log")):
        try:
            file = os.open(path, os.O_RDONLY)
        except FileNotFoundError:
            continue  # another process has taken it in
        try:
            has_ended = _lock(file)
            num_new += _take_in(ledger, path, file, has_ended=has_ended)
        finally:
            os.close(file)
    return num_new


def waiting_bytes(folder: Path) -> int:
    """The size of all that is not in the ledger yet."""
    return sum(path.stat().st_size for path in folder.glob("*.log"))


def _take_in(ledger: Ledger, path: Path, file: int, *, has_ended: bool) -> int:
    num_new = end = 0
    for entries, reached in _blocks(file):
        num_new += _add_block(ledger, entries)
        end = reached
    if not has_ended:
        return num_new
    left = os.fstat(file).st_size - end
    if left and not _is_cut_off(file, end):
        aside = path.with_suffix(".damaged")
        path.rename(aside)
        _LOGGER.critical(
            "%s is damaged after byte %d; what came before is in the ledger. Check the disk; the "
            "file stays for a look at the other %d bytes.", aside, end, left,
        )  # fmt: skip
        return num_new
    path.unlink(missing_ok=True)
    return num_new


def _add_block(ledger: Ledger, entries: Sequence[Entry]) -> int:
    """Add a block; a prediction that the database cannot hold is set aside, and stops no other."""
    try:
        with ledger.begin() as connection:
            return _add_new(connection, entries)
    except (DataError, IntegrityError) as error:
        if len(entries) > 1:
            return sum(_add_block(ledger, [entry]) for entry in entries)
        made = entries[0].row.prediction
        _LOGGER.exception("prediction %s cannot be stored in the ledger", made.id)
        with ledger.begin() as connection:
            subject = f"prediction {made.id}"
            add_skip(connection, subject, f"not stored: {error.orig}", None, made.created_at)
        return 0


def _add_new(connection: Connection, entries: Sequence[Entry]) -> int:
    """Add what the ledger does not hold; the lock comes first, so that two do not add the same."""
    keep_commit_order(connection, predictions)
    ids, known = [entry.row.prediction.id for entry in entries], set[str]()
    for part in in_parts(ids):
        here = select(predictions.c.id).where(predictions.c.id.in_(part))
        known.update(connection.execute(here).scalars())
    new = [entry for entry in entries if entry.row.prediction.id not in known]
    append_predictions(connection, [entry.row for entry in new])
    for entry in new:
        if entry.fault is not None:
            made = entry.row.prediction
            add_skip(connection, f"prediction {made.id}", entry.fault, None, made.created_at)
    return len(new)


def _frame(entries: Sequence[Entry]) -> bytes:
    heads, parts = [], list[bytes]()
    for entry in entries:
        sample, made = entry.row.sample, entry.row.prediction
        embedding = write_embedding(made.embedding)
        payload = sample.payload if is_small(sample.payload) else None
        parts += (embedding, payload or b"")
        sizes = len(embedding), None if payload is None else len(payload)
        heads.append(
            (
                *(made.id, made.answer, made.confidence, made.latency_ms, made.model_digest),
                *(made.created_at.isoformat(), sample.id, sample.media_type, sample.metadata),
                *(entry.row.group, entry.row.split.value, entry.fault, *sizes),
            )
        )
    text = json.dumps(heads).encode()
    body = b"".join((_SIZE.pack(len(text)), text, *parts))
    return _HEAD.pack(len(body), zlib.crc32(body)) + body


def _entries(body: bytes) -> Iterator[Entry]:
    (size,) = _SIZE.unpack_from(body)
    place = _SIZE.size + size
    for head in json.loads(body[_SIZE.size : place]):
        *said, num_embedding, num_payload = head
        embedding = read_embedding(body[place : place + num_embedding])
        place += num_embedding
        payload = None if num_payload is None else body[place : place + num_payload]
        place += num_payload or 0
        yield _entry(said, embedding, payload)


def _entry(said: Sequence[Any], embedding: Any, payload: bytes | None) -> Entry:
    key, answer, confidence, latency_ms, digest, at = said[:6]
    sample_id, media_type, metadata, group, split, fault = said[6:]
    sample = Sample(id=sample_id, payload=payload or b"", media_type=media_type, metadata=metadata)
    made = Prediction(
        id=key,
        sample_id=sample_id,
        answer=answer,
        confidence=confidence,
        embedding=embedding,
        latency_ms=latency_ms,
        model_digest=digest,
        created_at=datetime.fromisoformat(at),
    )
    row = Logged(
        sample=sample,
        group=group,
        split=Split(split),
        prediction=made,
        has_payload=payload is not None,
    )
    return Entry(row=row, fault=fault)


def _blocks(file: int) -> Iterator[tuple[list[Entry], int]]:
    """Yield the entries of whole frames in blocks, and where each block ends."""
    entries, size, place = list[Entry](), 0, 0
    while (body := _body(file, place)) is not None:
        entries += _entries(body)
        place += _HEAD.size + len(body)
        size += len(body)
        if size >= _BLOCK_BYTES:
            yield entries, place
            entries, size = [], 0
    if entries:
        yield entries, place


def _body(file: int, place: int) -> bytes | None:
    """What the frame at a place holds; None where there is no whole one."""
    head = os.pread(file, _HEAD.size, place)
    if len(head) < _HEAD.size:
        return None
    length, check = _HEAD.unpack(head)
    body = os.pread(file, length, place + _HEAD.size)
    return body if length and len(body) == length and zlib.crc32(body) == check else None


def _is_cut_off(file: int, place: int) -> bool:
    """Whether the frame at a place is the last one, of which not all was written."""
    head = os.pread(file, _HEAD.size, place)
    if len(head) < _HEAD.size or not any(head):
        return True
    length: int = _HEAD.unpack(head)[0]
    return place + _HEAD.size + length >= os.fstat(file).st_size


def _lock(file: int) -> bool:
    """Whether the process that wrote the segment has ended it, or has ended itself."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
