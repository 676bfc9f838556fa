"""Takes rows of a log into the ledger: fetches payloads, and writes what is new in one transaction.

Files and HTTP come through here. What cannot be used is a counted reject; only storage that fails
ends the work, and then nothing of the piece is stored.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import NamedTuple

import fsspec
import numpy as np
from sqlalchemy import Connection

from flywheel.blobs import Blobs
from flywheel.errors import UserError
from flywheel.intake.files import Row
from flywheel.intake.rows import (
    Kind,
    PredictionRow,
    Reading,
    Rejected,
    RejectedError,
    read_feedback,
    read_prediction,
)
from flywheel.label_files.reading import media_type_of
from flywheel.ledger.intake import Arrived, append_arrived, append_heard
from flywheel.ledger.predictions import Logged
from flywheel.ledger.samples import group_of, is_small, split_of
from flywheel.project import Project
from flywheel.records import Feedback, Prediction, Sample

_AT_ONCE = 32
"""payloads that are fetched from addresses at the same time"""
_ROWS, _BYTES = 10_000, 16_000_000
"""of one transaction; payloads of that many bytes are held at once. Ids are in no order, so that each
transaction writes nearly every page of their index: few large ones write much less"""
_NO_ROOTS = "names no payload that may be read from here"
_CERTAIN = 1.0
"""confidence of a prediction whose own is missing, so that it is no suspect until it is known"""
_NOTHING = np.zeros(0, dtype=np.float32)


@dataclass(frozen=True, kw_only=True, slots=True)
class Placing:
    """Where payloads may be, and where samples belong."""

    project: Project
    roots: Sequence[str] | None = None
    """beginnings of paths and addresses that may be read; None: all, as the user's own command may"""
    folder: Path | None = None
    """that paths are relative to"""
    reads: Callable[[list[Sample]], object] | None = None
    """what raises for a payload that the task cannot read, `Task.inputs` for one; a night would fail
    on it. None: nothing is tried"""


@dataclass(kw_only=True, slots=True)
class Taken:
    """What became of rows; those of several pieces are added up."""

    num_new: int = 0
    num_known: int = 0
    """the same came before"""
    num_early: int = 0
    """feedback that waits for its prediction"""
    rejected: list[Rejected] = field(default_factory=list)

    def add(self, other: Taken) -> None:
        """Count what became of another piece."""
        self.num_new += other.num_new
        self.num_known += other.num_known
        self.num_early += other.num_early
        self.rejected += other.rejected


class Read(NamedTuple):
    """A row that was read, with its payload."""

    row: Row
    entry: Arrived | Feedback

    @property
    def place(self) -> int:
        """Its number."""
        return self.row.number

    @property
    def size(self) -> int:
        """Bytes of its payload."""
        return len(self.entry.entry.sample.payload) if isinstance(self.entry, Arrived) else 0


def read_rows(
    rows: Iterable[Row], kind: Kind, reading: Reading, placing: Placing
) -> Iterator[Read | Rejected]:
    """Read rows in order, payloads included; a few at a time are held."""
    if kind == "feedback":
        for row in rows:
            yield _feedback_row(row, reading)
        return
    with ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="payloads") as pool:
        waiting = iter(rows)
        while piece := list(itertools.islice(waiting, _AT_ONCE)):
            parsed = [_parsed(row, reading) for row in piece]
            is_afar = any(not isinstance(one, str) and "://" in one.where for one in parsed)
            # Files on this disk gain nothing from threads.
            do = pool.map if is_afar else map
            for row, found in zip(
                piece, do(partial(_filled, placing=placing), parsed), strict=True
            ):
                yield _arrived(row, found, placing)


def pieces_of(read: Iterable[Read | Rejected]) -> Iterator[list[Read | Rejected]]:
    """The rows in pieces of one transaction each."""
    piece: list[Read | Rejected] = []
    size = 0
    for one in read:
        piece.append(one)
        size += one.size
        if len(piece) >= _ROWS or size >= _BYTES:
            yield piece
            piece, size = [], 0
    if piece:
        yield piece


def take(
    connection: Connection, blobs: Blobs, read: Sequence[Read | Rejected], kind: Kind
) -> Taken:
    """Write rows that were read; what is known already is passed over, so it may come again.

    Raises:
        OSError: a payload cannot be stored.
    """
    taken = Taken(rejected=[one for one in read if isinstance(one, Rejected)])
    kept = [one for one in read if isinstance(one, Read)]
    if kind == "feedback":
        given = [one.entry for one in kept if isinstance(one.entry, Feedback)]
        taken.num_new, taken.num_known, taken.num_early = append_heard(connection, given)
        return taken
    arrived = [one.entry for one in kept if isinstance(one.entry, Arrived)]
    payloads = (one.entry.sample.payload for one in arrived)
    blobs.put_all(payload for payload in payloads if not is_small(payload))
    written = append_arrived(connection, arrived)
    taken.num_new, taken.num_known = written.num_new, written.num_known
    for place in written.conflicting:
        row = kept[place].row
        reason = "id is that of another prediction, with another payload or answer"
        taken.rejected.append(rejected(row, reason))
    return taken


def rejected(row: Row, reason: str, more: str = "") -> Rejected:
    """A row that is left out, with its text."""
    text = row.text or _text_of(row)
    return Rejected(place=row.number, reason=reason, text=f"{more}: {text}" if more else text)


def _text_of(row: Row) -> str:
    return row.values if isinstance(row.values, str) else repr(dict(row.values))[:2_000]


def _feedback_row(row: Row, reading: Reading) -> Read | Rejected:
    if isinstance(row.values, str):
        return rejected(row, row.values)
    try:
        return Read(row, read_feedback(row.values, reading))
    except RejectedError as error:
        return rejected(row, str(error))


def _parsed(row: Row, reading: Reading) -> PredictionRow | str:
    """The prediction of a row, or why there is none."""
    if isinstance(row.values, str):
        return row.values
    try:
        return read_prediction(row.values, reading)
    except RejectedError as error:
        return str(error)


def _filled(one: PredictionRow | str, placing: Placing) -> tuple[PredictionRow, bytes] | str:
    """A prediction with its payload, or why there is none."""
    if isinstance(one, str):
        return one
    try:
        payload = one.payload if one.payload is not None else _fetched(one.where, placing)
    except RejectedError as error:
        return str(error)
    most = placing.project.serve.max_payload_bytes
    if not 0 < len(payload) <= most:
        return f"payload has 0 bytes, or more than serve.max_payload_bytes, {most:,}"
    return one, payload


def _fetched(where: str, placing: Placing) -> bytes:
    """The payload at a path or an address."""
    most = placing.project.serve.max_payload_bytes + 1
    path = ((placing.folder or Path()) / where).resolve()
    if placing.roots is not None and not _is_below(where, path, placing.roots):
        raise RejectedError(_NO_ROOTS)
    try:
        if "://" in where:
            with fsspec.open(where, "rb") as file:
                return bytes(file.read(most))
        with path.open("rb") as local:
            return local.read(most)
    except FileNotFoundError as error:
        raise RejectedError("payload is gone: there is no file of that name") from error
    except Exception as error:
        raise RejectedError(f"payload cannot be read: {type(error).__name__}") from error


def _is_below(where: str, path: Path, roots: Sequence[str]) -> bool:
    """Whether a path or an address lies below one of those that may be read."""
    if "://" not in where:
        local = (Path(root).resolve() for root in roots if "://" not in root)
        return any(path.is_relative_to(root) for root in local)
    below = any(where.startswith(f"{root.rstrip('/')}/") for root in roots if "://" in root)
    return below and not any(climbs in where for climbs in ("..", "::", "%"))


def _arrived(
    row: Row, found: tuple[PredictionRow, bytes] | str, placing: Placing
) -> Read | Rejected:
    if isinstance(found, str):
        return rejected(row, found)
    one, payload = found
    media_type = one.media_type or media_type_of(one.where, payload)
    sample = Sample.of(payload, media_type, one.metadata)
    if placing.reads is not None:
        try:
            placing.reads([sample])
        except UserError as error:
            return rejected(row, "payload is none that the task can read", str(error))
    settings = placing.project.dataset
    group = group_of(sample.metadata, sample.id, settings.group)
    prediction = Prediction(
        id=one.id,
        sample_id=sample.id,
        answer=one.answer,
        confidence=_CERTAIN if one.confidence is None else one.confidence,
        embedding=_NOTHING if one.embedding is None else one.embedding,
        latency_ms=one.latency_ms,
        model_digest=one.model,
        created_at=one.created_at,
    )
    split = split_of(placing.project.name, group, settings.testing_groups)
    logged = Logged(sample=sample, group=group, split=split, prediction=prediction)
    arrived = Arrived(
        entry=logged,
        has_confidence=one.confidence is not None,
        has_embedding=one.embedding is not None,
    )
    return Read(row, arrived)
