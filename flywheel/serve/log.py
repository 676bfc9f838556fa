"""Stores predictions and feedback durably before they are acknowledged.

A batch of predictions is one write to a file and one wait for the disk; the ledger takes them in a
moment later. When the disk fails, callers get an error and retry; the server needs no restart
afterwards. While only the ledger fails, predictions are answered and wait for it.

Whether the server can do its work now: a model serves, and what it answers is stored. A disk that is
full, or a folder that is gone, is noticed by writing to it.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from uuid import uuid4

from sqlalchemy import Connection, make_url, text
from sqlalchemy.exc import SQLAlchemyError

from flywheel.blobs import Blobs
from flywheel.errors import FlywheelError, UnavailableError
from flywheel.ledger import Ledger
from flywheel.ledger.samples import is_small
from flywheel.ledger.segments import Entry, Segment, take_in, waiting_bytes
from flywheel.private import private_folder
from flywheel.project import Project

_LOGGER = logging.getLogger(__name__)
_QUIET_SECONDS = 0.2
"""without a new prediction, after which the ledger takes in those that wait: it costs as much as
answering, so it is done between bursts"""
_OLD_SECONDS = 10.0
"""after which it is done under load too"""
_FULL_BYTES = 64_000_000
"""of one segment, from which on it does not wait either"""
_MOST_WAITING_BYTES = 2_000_000_000


class PredictionLog:
    """Stores batches of predictions in a segment; a thread takes what is there into the ledger.

    What an earlier process left in the folder is taken in as well.
    """

    def __init__(self, ledger: Ledger, blobs: Blobs, folder: Path) -> None:
        self._ledger, self._blobs, self._folder = ledger, blobs, folder
        self._segment: Segment | None = None
        self._appending, self._taking_in = threading.Lock(), threading.Lock()
        self._is_new, self._is_closing = threading.Event(), threading.Event()
        self._left = waiting_bytes(folder)
        with suppress(FlywheelError):  # else the thread tries again
            self.flush()
        if self._left:
            self._is_new.set()
        self._thread = threading.Thread(target=self._keep_taking_in, name="log", daemon=True)
        self._thread.start()

    def write(self, batch: Sequence[Entry]) -> None:
        """Store a batch; on return, its payloads and rows survive a power failure.

        Raises:
            UnavailableError: they could not be stored.
        """
        try:
            self._blobs.put_all(
                payload
                for payload in (entry.row.sample.payload for entry in batch)
                if not is_small(payload)
            )
            with self._appending:
                self._append(batch)
        except OSError as error:
            raise UnavailableError(
                f"The prediction cannot be stored: {error}. Free disk space, or repair the project's "
                "state folder and that of storage.blobs, then send this again."
            ) from error
        self._is_new.set()

    def flush(self) -> None:
        """Take all that is stored into the ledger now.

        Raises:
            UnavailableError: the ledger cannot be written; all that is stored stays.
        """
        with self._taking_in, _failing(self._ledger):
            if self._segment is not None and self._segment.size:
                self._begin_another(Segment(private_folder(self._folder)))
            take_in(self._ledger, self._folder)
            self._left = 0

    def close(self) -> None:
        """Take in what is stored, and stop; what the ledger does not take now stays for later."""
        self._is_closing.set()
        self._is_new.set()
        self._thread.join()
        self._begin_another(None)
        with self._taking_in, suppress(FlywheelError), _failing(self._ledger):
            take_in(self._ledger, self._folder)

    def _begin_another(self, segment: Segment | None) -> None:
        """Append to another segment, made beforehand so that no caller waits for that."""
        with self._appending:
            ended, self._segment = self._segment, segment
            if ended is not None:
                self._left += ended.size
                ended.close()

    def _append(self, batch: Sequence[Entry]) -> None:
        if self._left > _MOST_WAITING_BYTES:
            raise UnavailableError(
                f"{self._left:,} bytes of predictions wait for the ledger, which cannot be written. "
                "Repair it, see GET /readyz, then send this again."
            )
        if self._segment is None:
            self._segment = Segment(private_folder(self._folder))
        try:
            self._segment.append(batch)
        except OSError:
            self._segment.close()
            self._segment = None  # the next batch begins another one
            raise

    def _keep_taking_in(self) -> None:
        failed = ""
        while not self._is_closing.is_set():
            self._is_new.wait()
            if failed:
                self._is_closing.wait(_OLD_SECONDS)
            else:
                self._wait_for_quiet()
            self._is_new.clear()
            try:
                self.flush()
                failed = ""
            except FlywheelError as error:
                if str(error) != failed:
                    failed = str(error)
                    _LOGGER.warning("%s Predictions wait in %s.", failed, self._folder)
                self._is_new.set()

    def _wait_for_quiet(self) -> None:
        latest = time.monotonic() + _OLD_SECONDS
        while time.monotonic() < latest:
            segment = self._segment
            size = segment.size if segment is not None else 0
            if self._is_closing.wait(_QUIET_SECONDS) or size > _FULL_BYTES:
                return
            if segment is self._segment and (segment is None or segment.size == size):
                return


@contextmanager
def durably(ledger: Ledger) -> Iterator[Connection]:
    """Open a transaction on the ledger; its failures are ones that a caller may retry.

    Raises:
        UnavailableError: the ledger's disk or database server failed.
    """
    with _failing(ledger), ledger.begin() as connection:
        yield connection


@contextmanager
def _failing(ledger: Ledger) -> Iterator[None]:
    try:
        _must_be_there(ledger)
        yield
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
    """The state folder, where the log is, and those of ledger and blobs that are on this machine."""
    yield "the state folder", project.state
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
