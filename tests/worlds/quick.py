"""What makes tests quick that pull no plug: no wait for the disk, and nothing compiled or made twice."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from uuid import uuid4

import pytest
from sqlalchemy import Engine, event
from sqlalchemy.dialects.sqlite.pysqlite import SQLiteDialect_pysqlite
from sqlalchemy.pool import Pool
from sqlalchemy.util import LRUCache

from flywheel import sources
from flywheel.ledger import engine as engines
from flywheel.ledger.dialects import RENAME, Renamer


def trust_the_cache(connection: object, *_: object) -> None:
    if isinstance(connection, sqlite3.Connection):
        connection.execute("PRAGMA synchronous=OFF")


@contextmanager
def quick() -> Iterator[None]:
    """Commits do not wait for the disk, retries not for a server, ledgers not for a compiler."""
    if event.contains(Pool, "checkout", trust_the_cache):  # the whole session is quick
        yield
        return
    event.listen(Pool, "checkout", trust_the_cache)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda _: None)
        patch.setattr(os, "sync", lambda: None)
        patch.setattr("httpcore.NetworkBackend.sleep", lambda *_: None)
        patch.setattr("flywheel.evaluate.book._ROUNDS", 1)  # of the stopwatch
        for name in ("_imported", "texts_of"):  # of the sources of a task, which hardly change
            patch.setattr(sources, name, cache(_listed(getattr(sources, name))))
        _make_once(patch)
        yield
    event.remove(Pool, "checkout", trust_the_cache)


def _listed(function: Callable[..., Iterable[str]]) -> Callable[..., list[str]]:
    return lambda *given: list(function(*given))


def _make_once(patch: pytest.MonkeyPatch) -> None:
    """Share tables and what SQLAlchemy compiled among the ledgers of a process: most tests open one.

    The dialect is part of the key. Two of them give the same as long as neither renames classes.
    """
    shared, make, empty = LRUCache(5000), engines._engine, cache(_empty_ledger)

    def sharing(url: str) -> Engine:
        engine = make(url)
        if isinstance(engine.dialect, SQLiteDialect_pysqlite):
            engine._compiled_cache = shared
            database = engine.url.database
            if database and not Path(database).exists():
                content, identity = empty(make)
                with suppress(OSError), Path(database).open("xb") as file:
                    file.write(content.replace(identity, uuid4().hex.encode()))
        return engine

    patch.setattr(engines, "_engine", sharing)
    patch.setattr(SQLiteDialect_pysqlite, "__eq__", _give_the_same, raising=False)
    patch.setattr(SQLiteDialect_pysqlite, "__hash__", lambda _: 0, raising=False)


def _empty_ledger(make: Callable[[str], Engine]) -> tuple[bytes, bytes]:
    """The file of a ledger that was just made, and the id in it, which no other has."""
    with TemporaryDirectory() as folder:
        engine = make(f"sqlite:///{folder}/ledger.db")
        engines._migrate(engine)
        with engine.connect() as connection:
            identity = engines.project_id(connection)
        engine.dispose()
        return Path(folder, "ledger.db").read_bytes(), identity.encode()


def _give_the_same(one: SQLiteDialect_pysqlite, other: object) -> bool:
    return one is other or (
        type(one) is type(other) and not any(_renames(dialect) for dialect in (one, other))
    )


def _renames(dialect: object) -> bool:
    return bool(getattr(dialect, RENAME, Renamer()).pairs)
