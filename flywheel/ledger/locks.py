"""One holder at a time: the lock is the operating system's or PostgreSQL's, so it dies with its holder.

A SQLite ledger has one file a lock beside it (flock). On PostgreSQL a lock is an advisory one of a
session of its own. The table `locks` only says who the holder is, and fences: a holder whose session
was lost commits nothing unless the row is still its own, since who takes a lock rewrites it first.
"""

from __future__ import annotations

import contextlib
import fcntl
import functools
import logging
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Protocol, TypeAlias
from uuid import uuid4

from sqlalchemy import Connection, Engine, delete, insert, select, text
from sqlalchemy.exc import DBAPIError

from flywheel.errors import BusyError, UnavailableError
from flywheel.ledger.engine import Ledger, naming_failures
from flywheel.ledger.tables import locks

_LOGGER = logging.getLogger(__name__)
_LOOK_SECONDS = 0.2
_LEAST_SECONDS = 0.1
"""of patience: a process that asks for the holder of a file's lock holds it for a moment"""
_OUTAGE_SECONDS = 60.0
"""of patience with a ledger that fails, however long a holder is waited for"""
_KEY = "hashtextextended(current_schema() || '/' || :name, 7305118)"
"""bigint; two projects may share a database, each in a schema of its own"""
_SESSION = (
    # The server would notice only after two hours that the machine of a holder has lost power.
    "SET tcp_keepalives_idle = 20; SET tcp_keepalives_interval = 10; SET tcp_keepalives_count = 3"
)


class _Grip(Protocol):
    """What keeps others out."""

    def renew(self) -> bool:
        """Whether it holds, after trying once more where it was lost."""

    def release(self) -> None:
        """Let others in."""

    def forget(self) -> None:
        """Let go in a forked child, which would keep the lock when its parent is killed."""


@dataclass(frozen=True, slots=True)
class Held:
    """A lock that this process holds."""

    name: str
    holder: str
    grip: _Grip = field(repr=False)

    def check(self, connection: Connection) -> None:
        """Make sure, until the transaction ends, that no other process has had the lock meanwhile.

        Raises:
            BusyError: another has, while this process was cut off from the ledger.
            UnavailableError: the database does not answer.
        """
        # Locks the row: who takes over waits for this transaction before it begins.
        query = select(locks.c.holder).where(locks.c.name == self.name).with_for_update()
        holder = connection.execute(query).scalar()
        if holder != self.holder or not self.grip.renew():
            other = holder if holder not in {None, self.holder} else "another process"
            raise BusyError(
                f"{self.name} is no longer held by {self.holder}, which was cut off from the "
                f"ledger; {other} has gone on with it"
            )


_Key: TypeAlias = tuple[str, str, str]
"""ledger, name, holder"""
_held: dict[_Key, Held] = {}
"""what this process holds"""


def _forget() -> None:
    for held in _held.values():
        held.grip.forget()
    _held.clear()


os.register_at_fork(after_in_child=_forget)


@contextmanager
def hold(
    ledger: Ledger, name: str, now: Callable[[], datetime], *, patience_seconds: float = 0.0
) -> Iterator[Held]:
    """Hold a lock for the length of a block; it may be entered again by its own process.

    Args:
        ledger: where the lock is.
        name: of the lock.
        now: shown as the time since when it is held, and used for nothing else.
        patience_seconds: to wait for another holder.

    Raises:
        BusyError: another process holds it.
        UnavailableError: the database does not answer.
    """
    key = (ledger.engine.url.render_as_string(), name, _me())
    held = None if key in _held else _wait(ledger, key, now, patience_seconds)
    if held is None:
        yield _held[key]
        return
    _held[key] = held
    try:
        yield held
    finally:
        del _held[key]
        _give_back(ledger, held)


def holder_of(connection: Connection, name: str) -> str | None:
    """Who holds a lock, as host, process id and a random part; None when it is free."""
    holder = connection.execute(select(locks.c.holder).where(locks.c.name == name)).scalar()
    if holder is None:  # who was killed has left its row, but not its lock
        return None
    if connection.dialect.name == "postgresql":
        query = text(  # _KEY is a constant
            "SELECT 1 FROM pg_locks WHERE locktype = 'advisory' AND granted AND objsubid = 1 "  # noqa: S608
            "AND database = (SELECT oid FROM pg_database WHERE datname = current_database()) "
            f"AND (classid::bigint << 32 | objid::bigint) = {_KEY}"
        )
        return str(holder) if connection.execute(query, {"name": name}).scalar() else None
    probe = _lock_file(connection.engine, name, fcntl.LOCK_SH)
    if probe is not None:
        probe.release()
    return None if probe is not None else str(holder)


def _wait(ledger: Ledger, key: _Key, now: Callable[[], datetime], patience: float) -> Held | None:
    """Take a lock as soon as it is free; None when another thread has taken it for this process."""
    name = key[1]
    begun = time.monotonic()
    give_up = begun + max(patience, _LEAST_SECONDS)
    has_warned = False
    while key not in _held:
        is_late = time.monotonic() >= give_up
        try:
            held = _take(ledger, name, now())
            if held is not None:
                return held
            busy, longest = _busy(ledger, name), patience
        except UnavailableError as error:
            # A holder ends; a full disk does not end by waiting, as a restart does.
            if is_late or time.monotonic() >= begun + _OUTAGE_SECONDS:
                raise
            busy, longest = str(error), min(patience, _OUTAGE_SECONDS)
        else:
            if is_late:
                raise BusyError(busy)
        if not has_warned and patience:
            _LOGGER.warning("%s; this one waits up to %.0f s", busy, longest)
            has_warned = True
        time.sleep(_LOOK_SECONDS if patience else _LEAST_SECONDS / 4)
    return None


def _take(ledger: Ledger, name: str, now: datetime) -> Held | None:
    """Take a lock and write who has it; None when another process has it."""
    grip: _Grip | None
    if ledger.engine.dialect.name == "postgresql":
        grip = _Session(ledger.engine, name)
        is_ours = grip.renew()
    else:
        grip = _lock_file(ledger.engine, name, fcntl.LOCK_EX)
        is_ours = grip is not None
    if grip is None or not is_ours:
        return None
    with ExitStack() as undo:
        undo.callback(grip.release)  # unless the row below says who has it
        with ledger.begin() as connection:
            connection.execute(delete(locks).where(locks.c.name == name))
            mine = {"name": name, "holder": _me(), "since": now}
            connection.execute(insert(locks), mine)
        undo.pop_all()
    return Held(name, _me(), grip)


def _give_back(ledger: Ledger, held: Held) -> None:
    """Free the lock; a row that cannot be removed holds nothing."""
    mine = locks.c.name == held.name, locks.c.holder == held.holder
    try:
        with ledger.begin() as connection:
            connection.execute(delete(locks).where(*mine))
    except UnavailableError as error:
        _LOGGER.warning("%s is free, but its last holder stays in the ledger: %s", held.name, error)
    finally:
        held.grip.release()


def _busy(ledger: Ledger, name: str) -> str:
    with ledger.read() as connection:
        row = connection.execute(select(locks).where(locks.c.name == name)).first()
    by = f"{row.holder} since {row.since:%Y-%m-%d %H:%M} UTC" if row else "a process that begins"
    return f"{name} is held by {by}; wait for it to end, or stop that process"


@dataclass(frozen=True, slots=True)
class _File:
    """An open file under flock, which the system frees when the process ends, however it ends."""

    descriptor: int

    def renew(self) -> bool:
        return True

    def release(self) -> None:
        os.close(self.descriptor)

    forget = release  # the parent has the same open file, and with it the lock


def _lock_file(engine: Engine, name: str, kind: int) -> _File | None:
    """Lock the file of this name beside a SQLite ledger; None when another has it.

    The file stays: were it removed, one could lock the old file and another a new one.
    """
    path = f"{engine.url.database}-{name.replace(' ', '-')}.lock"
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    except OSError as error:
        raise UnavailableError(
            f"{path} cannot be opened: {error.strerror}; make room, or make the folder writable"
        ) from error
    try:
        fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return None
    return _File(descriptor)


class _Session:
    """An advisory lock in a session of its own, which PostgreSQL frees with the session."""

    def __init__(self, engine: Engine, name: str) -> None:
        self._engine, self._name = engine, name
        self._connection: Connection | None = None
        self._alone = threading.Lock()

    def renew(self) -> bool:
        with self._alone:
            if self._connection is not None:
                try:
                    self._connection.execute(text("SELECT 1"))
                except DBAPIError:
                    self._close()
                else:
                    return True
            with naming_failures(self._engine):
                self._connection = self._lock()
            return self._connection is not None

    def _lock(self) -> Connection | None:
        """A session that has the lock; None when another has it."""
        connection = self._engine.execution_options(isolation_level="AUTOCOMMIT").connect()
        has_lock = False
        try:
            connection.detach()  # the pool would keep the session, and so the lock
            connection.execute(text(_SESSION))
            query = text(f"SELECT pg_try_advisory_lock({_KEY})")
            has_lock = bool(connection.execute(query, {"name": self._name}).scalar())
        finally:
            if not has_lock:
                connection.close()
        return connection if has_lock else None

    def release(self) -> None:
        with self._alone:
            self._close()

    def forget(self) -> None:
        raw: Any = self._connection and self._connection.connection.dbapi_connection
        if raw is not None:
            os.close(raw.fileno())  # not close(), which would end the parent's session

    def _close(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            with contextlib.suppress(DBAPIError):  # the session is gone already
                connection.close()


def _me() -> str:
    """This process, as it stands in its locks: host, process id and a part that no other has."""
    return _process(os.getpid())


@functools.cache
def _process(pid: int) -> str:
    return f"{socket.gethostname()}:{pid}:{uuid4().hex[:8]}"
