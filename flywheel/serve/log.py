"""Stores predictions and feedback durably before they are acknowledged.

Concurrent batches share one transaction, and so one wait for the disk (group commit). When the
disk fails, callers get an error and retry; the server needs no restart afterwards.

Whether the server can do its work now: a model serves, and what it answers is stored. A disk that is
full, or a folder that is gone, is noticed by writing to it.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

from sqlalchemy import Connection, make_url, text
from sqlalchemy.exc import SQLAlchemyError

from flywheel.blobs import Blobs
from flywheel.errors import FlywheelError, UnavailableError
from flywheel.ledger import Ledger
from flywheel.ledger.nights import add_skip
from flywheel.ledger.predictions import Logged, append_predictions
from flywheel.ledger.samples import is_small
from flywheel.project import Project
from flywheel.serve.grouped import Groups

_MOST_BATCHES = 64


@dataclass(frozen=True, kw_only=True, slots=True)
class Entry:
    """One prediction to store in the ledger."""

    row: Logged
    fault: str | None
    """what was not finite in the answer; stored as the reason of a skip"""


class PredictionLog:
    """Stores batches of predictions, several of them in one transaction."""

    def __init__(self, ledger: Ledger, blobs: Blobs) -> None:
        self._ledger, self._blobs = ledger, blobs
        self._groups = Groups[Sequence[Entry], None](fault=_storing_fault, most=_MOST_BATCHES)

    def write(self, batch: Sequence[Entry]) -> None:
        """Store a batch; on return, its payloads and rows survive a power failure.

        Raises:
            UnavailableError: they could not be stored.
        """
        turn = self._groups.join(batch)
        if turn.leads:
            with turn:
                self._commit([entry for entries in turn.items for entry in entries])
                turn.results = [None] * len(turn.items)
        turn.result()

    def _commit(self, entries: Sequence[Entry]) -> None:
        self._store_large([entry.row.sample.payload for entry in entries])
        with durably(self._ledger) as connection:
            append_predictions(connection, [entry.row for entry in entries])
            for entry in entries:
                if entry.fault is not None:
                    prediction = entry.row.prediction
                    subject = f"prediction {prediction.id}"
                    add_skip(connection, subject, entry.fault, None, prediction.created_at)

    def _store_large(self, payloads: Sequence[bytes]) -> None:
        """Store payloads too large for the ledger as blobs, before the rows that refer to them."""
        try:
            self._blobs.put_all(payload for payload in payloads if not is_small(payload))
        except OSError as error:
            raise UnavailableError(
                f"The payload cannot be stored: {error}. "
                "Free disk space or repair the folder of storage.blobs, then send this again."
            ) from error


@contextmanager
def durably(ledger: Ledger) -> Iterator[Connection]:
    """Open a transaction on the ledger; its failures are ones that a caller may retry.

    Raises:
        UnavailableError: the ledger's disk or database server failed.
    """
    try:
        _must_be_there(ledger)
        with ledger.begin() as connection:
            yield connection
    except (UnavailableError, SQLAlchemyError, OSError) as error:
        ledger.close()  # the next transaction reconnects
        cause = error.__cause__ or error
        reason = getattr(cause, "orig", None) or cause
        raise UnavailableError(
            f"The ledger {ledger.engine.url!r} cannot be written, and nothing was stored: {reason}. "
            "Free disk space or repair the folder, then send this again."
        ) from error


def _must_be_there(ledger: Ledger) -> None:
    """Raise OSError if SQLite's file is gone: SQLite would keep writing into the deleted file."""
    url = ledger.engine.url
    if url.get_backend_name() == "sqlite" and url.database:
        Path(url.database).stat()


def _storing_fault(error: BaseException) -> FlywheelError:
    if isinstance(error, UnavailableError):
        return UnavailableError(str(error))
    return FlywheelError(
        f"The prediction could not be stored: {error!r}. See the server's log, then send it again."
    )


_FRESH_SECONDS = 2.0
_PROBE = bytes(65_536)


class Readiness:
    """Tries the storage of one server, at most every two seconds; thread-safe."""

    def __init__(self, project: Project, ledger: Ledger) -> None:
        self._project, self._ledger = project, ledger
        self._lock = threading.Lock()
        self._found: tuple[str, ...] = ()
        self._tried_at = -_FRESH_SECONDS

    def faults(self) -> tuple[str, ...]:
        """Return why nothing can be stored now, without paths; nothing when all is well."""
        with self._lock:
            if time.monotonic() - self._tried_at >= _FRESH_SECONDS:
                self._found = tuple(self._try())
                self._tried_at = time.monotonic()
            return self._found

    def _try(self) -> Iterator[str]:
        try:
            with durably(self._ledger) as connection:
                if connection.dialect.name == "sqlite":
                    # Writes a page and changes nothing.
                    (version,) = connection.exec_driver_sql("PRAGMA user_version").one()
                    connection.exec_driver_sql(f"PRAGMA user_version = {version}")
                else:
                    connection.execute(text("SELECT txid_current()"))
        except FlywheelError:
            yield "the ledger cannot be written"
        for name, folder in _folders(self._project):
            try:
                _write(folder)
            except OSError as error:
                yield f"{name} cannot be written: {error.strerror}"


def _folders(project: Project) -> Iterator[tuple[str, Path]]:
    """The folders of the ledger and of the blobs, those that are on this machine."""
    url = make_url(project.ledger_url)
    if url.get_backend_name() == "sqlite" and url.database:
        yield "the ledger's folder", Path(url.database).parent
    if "://" not in project.blobs_url:
        yield "the blobs' folder", Path(project.blobs_url)


def _write(folder: Path) -> None:
    """Write, sync and remove a file, as a full disk does not let one."""
    path = folder / f".ready-{uuid4().hex}"
    try:
        with path.open("xb") as file:
            file.write(_PROBE)
            file.flush()
            os.fsync(file.fileno())
    finally:
        path.unlink(missing_ok=True)
