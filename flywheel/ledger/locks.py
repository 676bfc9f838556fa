"""One holder at a time, recognised when dead: a kill -9 leaves no lock behind.

A lock is a row with the host, process id and start of its holder, and a counter that the
holder raises while it lives. On the same host a holder whose process is gone is dead. One on
another host is dead when its counter has stood still for a minute of the watcher's own stopwatch,
in which the watcher could read it: no clock of day is asked, so one that jumps changes nothing.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Row, delete, select, update
from sqlalchemy.exc import SQLAlchemyError

from flywheel.errors import BusyError, UnavailableError
from flywheel.ledger.dialects import insert_new
from flywheel.ledger.engine import Ledger
from flywheel.ledger.holders import is_near, is_running
from flywheel.ledger.holders import this_process as _me
from flywheel.ledger.tables import locks

_LOGGER = logging.getLogger(__name__)
_BEAT_SECONDS = 10.0
_DEAD_SECONDS = 60.0
_LOOK_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class Held:
    """A lock that this process holds."""

    name: str
    holder: str

    def check(self, connection: Connection) -> None:
        """Make sure, in a transaction, that nobody has taken the lock for a dead one's.

        Raises:
            BusyError: somebody has, while this process was asleep or cut off from the ledger.
        """
        query = select(locks.c.holder).where(locks.c.name == self.name)
        holder = connection.execute(query).scalar()
        if holder != self.holder:
            raise BusyError(
                f"{self.name} is no longer held by {self.holder}, which gave no sign of life for "
                f"{_DEAD_SECONDS:.0f} s; {holder or 'another process'} has gone on with it"
            )


@contextmanager
def hold(
    ledger: Ledger, name: str, now: Callable[[], datetime], *, patience_seconds: float = 0.0
) -> Iterator[Held]:
    """Hold a lock for the length of a block; it may be entered again by its own process.

    Args:
        ledger: where the lock is.
        name: of the lock.
        now: tells people since when it is held, and nothing else.
        patience_seconds: to wait for a living holder. A holder on another host is watched for some
            seconds in any case, until it is seen to live or to be dead.

    Raises:
        BusyError: a living process holds it.
    """
    me = _me()
    if not _wait(ledger, name, now, patience_seconds):
        yield Held(name, me)
        return
    ended = threading.Event()
    beat = threading.Thread(
        target=_beat, args=(ledger, name, me, ended), name=f"beat of {name}", daemon=True
    )
    beat.start()
    try:
        yield Held(name, me)
    finally:
        ended.set()
        beat.join()
        _give_back(ledger, name, me)


def _wait(ledger: Ledger, name: str, now: Callable[[], datetime], patience: float) -> bool:
    """Take a lock as soon as it is free; False when it is ours already."""
    give_up = time.monotonic() + patience
    watch = _Watch()
    while True:
        try:
            with ledger.begin() as connection:
                is_new, row = _take(connection, name, now(), watch)
        except UnavailableError:
            if time.monotonic() >= give_up:
                raise
            watch = _Watch()  # who could not be read may have been cut off as well
        else:
            if row is None:
                return is_new
            if time.monotonic() >= give_up and watch.lives(row):
                raise BusyError(_told(name, row))
            if watch.is_first:
                _LOGGER.warning("%s; this one waits up to %.0f s", _told(name, row), patience)
        time.sleep(_LOOK_SECONDS)


def _take(
    connection: Connection, name: str, now: datetime, watch: _Watch
) -> tuple[bool, Row[Any] | None]:
    """Take a lock that is free or whose holder is dead; else the row of who holds it."""
    me = _me()
    query = select(locks).where(locks.c.name == name).with_for_update()
    row = connection.execute(query).first()
    if row is not None and row.holder == me:
        return False, None
    if row is None or watch.is_dead(row):
        if row is not None:
            same = locks.c.holder == row.holder, locks.c.counter == row.counter
            connection.execute(delete(locks).where(locks.c.name == name, *same))
        mine = {"name": name, "holder": me, "since": now, "counter": 0}
        connection.execute(insert_new(connection, locks), mine)
        row = connection.execute(query).one()  # on PostgreSQL another may have been faster
    return True, None if row.holder == me else row


class _Watch:
    """What one who waits has seen of the holder, by a stopwatch."""

    def __init__(self) -> None:
        self.is_first = True
        self._seen: tuple[str, datetime, int] | None = None
        self._at = time.monotonic()
        self._has_moved = False

    def is_dead(self, row: Row[Any]) -> bool:
        """Whether the holder is known to be dead by now."""
        seen = (row.holder, row.since, row.counter)
        if seen != self._seen:
            self.is_first = self._seen is None
            self._has_moved = self._seen is not None
            self._seen, self._at = seen, time.monotonic()
        else:
            self.is_first = False
        if is_near(row.holder):
            return not is_running(row.holder)
        return time.monotonic() - self._at >= _DEAD_SECONDS

    def lives(self, row: Row[Any]) -> bool:
        """Whether the holder is known to live: its process is there, or its counter has moved."""
        return is_near(row.holder) or self._has_moved


def _beat(ledger: Ledger, name: str, me: str, ended: threading.Event) -> None:
    """Raise the counter until the lock is given back; runs in a thread of its own."""
    mine = update(locks).where(locks.c.name == name, locks.c.holder == me)
    while not ended.wait(_BEAT_SECONDS):
        try:
            with ledger.begin() as connection:
                connection.execute(mine.values(counter=locks.c.counter + 1))
        except (UnavailableError, SQLAlchemyError) as error:  # whatever it is, it must go on
            _LOGGER.warning("%s gives no sign of life: %s", name, error)


def _give_back(ledger: Ledger, name: str, me: str) -> None:
    """Free the lock; where that fails, what the block came to counts, and who dies frees it too."""
    try:
        with ledger.begin() as connection:
            connection.execute(delete(locks).where(locks.c.name == name, locks.c.holder == me))
    except UnavailableError as error:
        _LOGGER.warning("%s stays held until this process has ended: %s", name, error)


def _told(name: str, row: Row[Any]) -> str:
    return (
        f"{name} is held by {row.holder} since {row.since:%Y-%m-%d %H:%M} UTC; "
        "wait for it to end, or stop that process"
    )
