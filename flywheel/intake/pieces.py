"""Brings a file of predictions or feedback into the ledger, after a look at its beginning.

How far a file has been read is written in the transaction of the rows themselves. A file that has
grown goes on where it ended; one that is read again changes nothing, since ids are known. So a kill in
between undoes no piece.
"""

from __future__ import annotations

import itertools
import json
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import IO

from sqlalchemy.exc import SQLAlchemyError

from flywheel.blobs import Blobs
from flywheel.errors import UnavailableError, UserError
from flywheel.intake.files import LogFile, Row
from flywheel.intake.rows import FIELDS, Kind, Reading, Rejected
from flywheel.intake.store import Placing, Read, Taken, pieces_of, read_rows, take
from flywheel.ledger import Ledger
from flywheel.ledger.intake import Arrived
from flywheel.ledger.windows import move_watermark, watermark


@dataclass(kw_only=True, slots=True)
class Brought:
    """What became of a file."""

    num_rows: int = 0
    """read now"""
    num_before: int = 0
    """read by earlier runs and passed over"""
    num_new: int = 0
    num_known: int = 0
    num_early: int = 0
    reasons: Counter[str] = field(default_factory=Counter)
    """why rows were rejected -> how many"""
    rejects: Path | None = None
    """the file of rejected rows; None: there are none"""


Progress = Callable[[Brought], None]
"""called after each piece"""


def bring(
    ledger: Ledger,
    blobs: Blobs,
    log: LogFile,
    kind: Kind,
    reading: Reading,
    placing: Placing,
    *,
    rejects: Path,
    again: bool = False,
    progress: Progress = lambda _: None,
) -> Brought:
    """Bring in what is new of a file.

    Args:
        ledger: of the project.
        blobs: of the project.
        log: the file.
        kind: what it holds.
        reading: how its rows are read.
        placing: where payloads are and samples belong.
        rejects: where rejected rows are appended with their reasons.
        again: read the whole file, as after a repair of what it names.
        progress: called after each piece.

    Raises:
        UserError: the file cannot be read.
        UnavailableError: the ledger or the blobs cannot be written; run again, it goes on.
    """
    # Of the kind too: one log may hold predictions and what became of them.
    mark, done = f"import {kind[0]} {log.key}"[:50], Brought()
    if not again:
        with ledger.begin() as connection:
            done.num_before = watermark(connection, mark)
    with _rejects_file(rejects) as write:
        read = read_rows(log.rows(done.num_before), kind, reading, placing)
        for piece in pieces_of(read):
            upto = piece[-1].place
            try:
                with ledger.begin() as connection:
                    taken = take(connection, blobs, piece, kind)
                    # First, so that a kill writes a reject twice rather than never.
                    write(log, taken.rejected)
                    move_watermark(connection, mark, upto)
            except (OSError, SQLAlchemyError) as error:
                raise UnavailableError(
                    f"row {upto:,} of {log.address} and those before it cannot be stored: {error}. "
                    "Free disk space, then run the same command again; it goes on there"
                ) from error
            _count(done, taken, len(piece))
            done.rejects = rejects if done.reasons else None
            progress(done)
    return done


def _count(done: Brought, taken: Taken, num_rows: int) -> None:
    done.num_rows += num_rows
    done.num_new += taken.num_new
    done.num_known += taken.num_known
    done.num_early += taken.num_early
    done.reasons.update(one.reason for one in taken.rejected)


@contextmanager
def _rejects_file(path: Path) -> Iterator[Callable[[LogFile, list[Rejected]], None]]:
    """Append rejected rows to a file, which is made with the first of them."""
    files: list[IO[str]] = []

    def write(log: LogFile, rejected: list[Rejected]) -> None:
        if not rejected:
            return
        if not files:
            path.parent.mkdir(parents=True, exist_ok=True)
            files.append(path.open("a", encoding="utf-8"))
        for one in rejected:
            said = {"file": log.address, "row": one.place, "reason": one.reason, "text": one.text}
            files[0].write(json.dumps(said) + "\n")
        files[0].flush()

    try:
        yield write
    finally:
        for file in files:
            file.close()


_LOOKED_AT = 1_000


@dataclass(frozen=True, kw_only=True, slots=True)
class Preview:
    """The beginning of a file, as it would be stored."""

    columns: tuple[tuple[str, str], ...]
    """column -> field; "" is ignored"""
    num_rows: int
    """that were looked at"""
    read: tuple[Read, ...]
    rejected: tuple[Rejected, ...]
    models: Counter[str]
    first: datetime | None
    last: datetime | None
    num_without_confidence: int
    num_without_embedding: int


def look_at(log: LogFile, kind: Kind, reading: Reading, placing: Placing) -> Preview:
    """Read the first rows of a file; nothing is stored.

    Raises:
        UserError: the file cannot be read, or has a column that is not known.
    """
    rows = list(itertools.islice(log.rows(), _LOOKED_AT))
    columns = _columns(log, rows, kind, reading)
    found = list(read_rows(rows, kind, reading, placing))
    read = tuple(one for one in found if isinstance(one, Read))
    arrived = [one.entry for one in read if isinstance(one.entry, Arrived)]
    predictions = [one.entry.prediction for one in arrived]
    times = [one.created_at for one in predictions]
    times += [one.entry.created_at for one in read if not isinstance(one.entry, Arrived)]
    return Preview(
        columns=columns,
        num_rows=len(rows),
        read=read,
        rejected=tuple(one for one in found if isinstance(one, Rejected)),
        models=Counter(one.model_digest for one in predictions),
        first=min(times, default=None),
        last=max(times, default=None),
        num_without_confidence=sum(not one.has_confidence for one in arrived),
        num_without_embedding=sum(not one.has_embedding for one in arrived),
    )


def _columns(
    log: LogFile, rows: list[Row], kind: Kind, reading: Reading
) -> tuple[tuple[str, str], ...]:
    """Each column with its field.

    Raises:
        UserError: one is not known, or a mapping names one that is not there.
    """
    names = list(
        dict.fromkeys(
            name for row in rows if not isinstance(row.values, str) for name in row.values
        )
    )
    found, unknown = [], []
    for name in names:
        known = reading.columns.get(name, name)
        if known in FIELDS[kind] or (kind == "predictions" and known.startswith("metadata.")):
            found.append((name, known))
        elif name in reading.ignored:
            found.append((name, ""))
        else:
            unknown.append(name)
    if unknown:
        raise UserError(
            f"{log.address} has the columns {', '.join(map(repr, unknown[:10]))}, which are not known. "
            f"Map each with --map FIELD=COLUMN to one of {', '.join(FIELDS[kind])}, or metadata.NAME; "
            "or pass it over with --ignore COLUMN"
        )
    missing = sorted(set(reading.columns) - set(names)) if names else []
    if missing:
        raise UserError(
            f"{log.address} has no column {missing[0]!r}, which --map names; its first rows have "
            f"{', '.join(names)}. Correct --map"
        )
    return tuple(found)
