"""Who holds a lock, for people who look: nothing is taken and nobody is waited for."""

from __future__ import annotations

from sqlalchemy import Connection, select

from flywheel.ledger.holders import is_near, is_running
from flywheel.ledger.tables import locks


def holder_of(connection: Connection, name: str) -> str | None:
    """Who holds a lock, as host, process id and start; None when nobody who can live does.

    Of a holder on another host it is not known here whether it lives: that takes a minute of
    watching.
    """
    holder = connection.execute(select(locks.c.holder).where(locks.c.name == name)).scalar()
    if holder is None or (is_near(holder) and not is_running(holder)):
        return None
    return str(holder)
