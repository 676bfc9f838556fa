"""One holder at a time, recognised when dead: a kill -9 leaves no lock behind.

A lock is a row with the host, process id and start time of its holder. On the same host a
holder whose process is gone is dead; one on another host is given up after a day.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta

import psutil
from sqlalchemy import Connection, delete, select

from flywheel.errors import BusyError
from flywheel.ledger.engine import Ledger
from flywheel.ledger.tables import locks
from flywheel.ledger.writing import insert_new

_GIVE_UP = timedelta(days=1)


@contextmanager
def hold(
    ledger: Ledger, name: str, now: Callable[[], datetime], *, patience_seconds: float = 0.0
) -> Iterator[None]:
    """Hold a lock for the length of a block; it may be entered again by its own process.

    Raises:
        BusyError: a living process holds it.
    """
    me = _me()
    with ledger.begin() as connection:
        nested = not _take(connection, name, me, now())
    try:
        yield
    finally:
        if not nested:
            with ledger.begin() as connection:
                connection.execute(delete(locks).where(locks.c.name == name, locks.c.holder == me))


def _take(connection: Connection, name: str, me: str, now: datetime) -> bool:
    """Take a lock that is free or whose holder is dead; False when it is ours already."""
    query = select(locks).where(locks.c.name == name).with_for_update()
    row = connection.execute(query).first()
    if row is not None and row.holder == me:
        return False
    if row is None or not _alive(row.holder, row.since, now):
        dead = "" if row is None else row.holder
        connection.execute(delete(locks).where(locks.c.name == name, locks.c.holder == dead))
        mine = {"name": name, "holder": me, "since": now}
        connection.execute(insert_new(connection, locks), mine)
        row = connection.execute(query).one()  # on PostgreSQL another may have been faster
    if row.holder != me:
        raise BusyError(
            f"{name} is held by {row.holder} since {row.since:%Y-%m-%d %H:%M} UTC; "
            "wait for it to end, or stop that process"
        )
    return True


def _me() -> str:
    pid = os.getpid()
    return f"{socket.gethostname()}:{pid}:{psutil.Process(pid).create_time():.2f}"


def _alive(holder: str, since: datetime, now: datetime) -> bool:
    host, pid, started = holder.rsplit(":", 2)
    if host != socket.gethostname():
        return now - since < _GIVE_UP
    try:
        process = psutil.Process(int(pid))
        same = abs(process.create_time() - float(started)) < 1.0
        return same and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
