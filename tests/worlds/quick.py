"""What makes tests quick that pull no plug: no wait for the disk, and no statement compiled twice."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from sqlalchemy import Engine, event
from sqlalchemy.dialects.sqlite.pysqlite import SQLiteDialect_pysqlite
from sqlalchemy.pool import Pool
from sqlalchemy.util import LRUCache

from flywheel.ledger import engine as engines
from flywheel.ledger.dialects import RENAME
from flywheel.ledger.renames import Renamer


def trust_the_cache(connection: object, *_: object) -> None:
    if isinstance(connection, sqlite3.Connection):
        connection.execute("PRAGMA synchronous=OFF")


@contextmanager
def quick() -> Iterator[None]:
    """Commits do not wait for the disk, retries not for a server, ledgers not for a compiler."""
    event.listen(Pool, "checkout", trust_the_cache)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda _: None)
        patch.setattr(os, "sync", lambda: None)
        patch.setattr("httpcore.NetworkBackend.sleep", lambda *_: None)
        _compile_once(patch)
        yield
    event.remove(Pool, "checkout", trust_the_cache)


def _compile_once(patch: pytest.MonkeyPatch) -> None:
    """Share what SQLAlchemy compiled among the ledgers of a process: nearly each test opens one.

    The dialect is part of the key. Two of them give the same as long as neither renames classes.
    """
    shared, make = LRUCache(5000), engines._engine

    def sharing(url: str) -> Engine:
        engine = make(url)
        if isinstance(engine.dialect, SQLiteDialect_pysqlite):
            engine._compiled_cache = shared
        return engine

    patch.setattr(engines, "_engine", sharing)
    patch.setattr(SQLiteDialect_pysqlite, "__eq__", _give_the_same, raising=False)
    patch.setattr(SQLiteDialect_pysqlite, "__hash__", lambda _: 0, raising=False)


def _give_the_same(one: SQLiteDialect_pysqlite, other: object) -> bool:
    return one is other or (
        type(one) is type(other) and not any(_renames(dialect) for dialect in (one, other))
    )


def _renames(dialect: object) -> bool:
    return bool(getattr(dialect, RENAME, Renamer()).pairs)
