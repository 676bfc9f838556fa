"""Opens the ledger: one SQLAlchemy engine on a schema that is up to date.

SQLite runs in WAL mode with full synchronisation, so that a committed row survives a power
cut; writers queue up instead of failing. A PostgreSQL that is gone without a word (its machine lost
power, a cable was pulled) is noticed within a minute: its driver would wait for two hours.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

from alembic import command
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from alembic.util import CommandError
from sqlalchemy import URL, Connection, Engine, create_engine, event, func, make_url, select
from sqlalchemy.exc import ArgumentError, DatabaseError, NoSuchModuleError, OperationalError

from flywheel.errors import SettingsError, UnavailableError
from flywheel.ledger.tables import metadata

_MIGRATIONS = Path(__file__).with_name("migrations")
_BUSY_SECONDS = 30
_READ_ONLY = "flywheel_read_only"
_MIGRATION_LOCK = 7_305_118
"""Any number that only we use: of PostgreSQL's advisory lock."""
_NOTICED = {
    "connect_timeout": 10,  # seconds
    "keepalives_idle": 20,
    "keepalives_interval": 10,
    "keepalives_count": 3,
    "tcp_user_timeout": 50_000,  # milliseconds
}
"""how libpq notices that the server is gone"""


class Ledger:
    """What happened. Open it with `Ledger.open`; every access is one transaction.

    with ledger.begin() as connection:      # reads and writes, committed at the end
        append_predictions(connection, ...)
    """

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self._readers = engine.execution_options(**{_READ_ONLY: True})

    @classmethod
    def open(cls, url: str) -> Ledger:
        """The ledger at a SQLAlchemy URL, created or migrated when needed.

        Raises:
            SettingsError: the URL names no database that SQLAlchemy knows, a folder that
                cannot be written, a file that is no database, or a ledger of a revision that
                this version does not know.
            UnavailableError: the database does not answer.
        """
        engine = _engine(url)
        try:
            _migrate(engine)
        except OperationalError as error:
            engine.dispose()
            raise UnavailableError(
                f"the ledger {engine.url!r} does not open: {_in_one_line(error)}; "
                "check that its folder can be written, or that its server runs"
            ) from error
        except DatabaseError as error:
            engine.dispose()
            raise SettingsError(
                f"storage.ledger = {engine.url!r} is no ledger: {error.orig}; "
                "name another file or database, or restore this one from a back-up"
            ) from error
        except CommandError as error:
            engine.dispose()
            raise SettingsError(
                f"storage.ledger = {engine.url!r} was written by another version of flywheel, "
                f"newer than this or from before the first release: {error}. "
                "Install the version that wrote it, or name another ledger"
            ) from error
        return cls(engine)

    @contextmanager
    def begin(self) -> Iterator[Connection]:
        """A transaction: committed at the end of the block, rolled back on an error.

        Raises:
            UnavailableError: the database or its disk failed.
        """
        with naming_failures(self.engine), self.engine.begin() as connection:
            yield connection

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """A transaction that only reads; it neither waits for a writer nor makes one wait.

        Raises:
            UnavailableError: the database or its disk failed.
        """
        with naming_failures(self._readers), self._readers.begin() as connection:
            yield connection

    def close(self) -> None:
        """Give the connections back."""
        self.engine.dispose()


@contextmanager
def naming_failures(engine: Engine) -> Iterator[None]:
    """One line in place of the statement with all of its values, which are no one's business."""
    try:
        yield
    except OperationalError as error:
        raise UnavailableError(
            f"the ledger {engine.url!r} failed: {_in_one_line(error)}; nothing of this transaction is stored: "
            "see that its disk has room and its server runs, then run this again"
        ) from error


def _in_one_line(error: DatabaseError) -> str:
    return " ".join(str(error.orig).split()).removesuffix(".")


def _engine(url: str) -> Engine:
    try:
        parsed = make_url(url)
        if parsed.get_backend_name() == "sqlite":
            return _sqlite(url, parsed.database)
        return create_engine(url, pool_pre_ping=True, connect_args=_noticing(parsed))
    except (ArgumentError, NoSuchModuleError, ModuleNotFoundError) as error:
        raise SettingsError(
            f"storage.ledger is no database URL that can be opened: {error}; "
            "write sqlite:///.flywheel/ledger.db or postgresql+psycopg://user@host/name "
            "(the latter needs: pip install 'flywheel[postgres]')"
        ) from error


def _noticing(url: URL) -> dict[str, int]:
    """Connection options of the driver; those in the url come first."""
    if url.get_driver_name() not in {"psycopg", "psycopg2"}:
        return {}
    return {name: value for name, value in _NOTICED.items() if name not in url.query}


def _sqlite(url: str, database: str | None) -> Engine:
    try:
        Path(database or ".").parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise SettingsError(
            f"storage.ledger: {database} cannot be created: {error.strerror}; "
            "choose a folder that you may write"
        ) from error
    engine = create_engine(url, connect_args={"timeout": _BUSY_SECONDS})

    @event.listens_for(engine, "connect")
    def _configure(connection: Any, _record: Any) -> None:
        # The driver's own transaction handling starts them too late: it would read first and
        # fail to become a writer afterwards. We begin ourselves, see below.
        connection.isolation_level = None
        _use_wal(connection)
        connection.execute("PRAGMA synchronous=FULL")
        connection.execute("PRAGMA foreign_keys=ON")

    @event.listens_for(engine, "begin")
    def _begin(connection: Connection) -> None:
        read_only = connection.get_execution_options().get(_READ_ONLY, False)
        connection.exec_driver_sql("BEGIN" if read_only else "BEGIN IMMEDIATE")

    return engine


def _use_wal(connection: sqlite3.Connection) -> None:
    """Switch a new database to WAL; SQLite does not wait by itself for another who is at it."""
    give_up = time.monotonic() + _BUSY_SECONDS
    while True:
        try:
            connection.execute("PRAGMA journal_mode=WAL")
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode != sqlite3.SQLITE_BUSY or time.monotonic() > give_up:
                raise
            time.sleep(0.01)
        else:
            return


@cache
def _head() -> str | None:
    """The newest migration; Alembic compiles all of them to find out."""
    return ScriptDirectory.from_config(_config()).get_current_head()


def _config() -> Config:
    config = Config()
    config.set_main_option("script_location", str(_MIGRATIONS).replace("%", "%%"))
    return config


def _migrate(engine: Engine) -> None:
    """Bring the schema up to date; asks first, since Alembic's own start takes longer."""
    with engine.execution_options(**{_READ_ONLY: True}).connect() as connection:
        if MigrationContext.configure(connection).get_current_revision() == _head():
            return
    config = _config()
    with engine.begin() as connection:
        if connection.dialect.name == "postgresql":  # two that open a new ledger at once
            connection.execute(select(func.pg_advisory_xact_lock(_MIGRATION_LOCK)))
        context = MigrationContext.configure(connection)
        if context.get_current_revision() is None:
            metadata.create_all(connection, checkfirst=False)
            context.stamp(ScriptDirectory.from_config(config), "head")
            return
        config.attributes["connection"] = connection
        command.upgrade(config, "head")
