"""Opens the ledger: one SQLAlchemy engine on a schema that is up to date.

SQLite runs in WAL mode with full synchronisation, so that a committed row survives a power
cut; writers queue up instead of failing. A PostgreSQL that is gone without a word (its machine lost
power, a cable was pulled) is noticed within a minute: its driver would wait for two hours.

The id of a project is drawn once, with its ledger, and shown by every server that serves it: a name
can be given twice, and a folder can move.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from uuid import uuid4

from sqlalchemy import (
    URL,
    Connection,
    Engine,
    create_engine,
    event,
    func,
    insert,
    inspect,
    make_url,
    select,
    text,
    update,
)
from sqlalchemy.exc import ArgumentError, DatabaseError, NoSuchModuleError, OperationalError

from flywheel.errors import DamagedError, SettingsError, UnavailableError
from flywheel.ledger import serving_tables
from flywheel.ledger.dialects import RENAME, Renamer
from flywheel.ledger.tables import annotations as given
from flywheel.ledger.tables import identity, renames, watermarks
from flywheel.records import Json


def draw_identity(connection: Connection) -> None:
    """Write the id of a new ledger."""
    connection.execute(insert(identity).values(id=uuid4().hex))


def project_id(connection: Connection) -> str:
    """The id of the project, 32 hexadecimal digits."""
    found: str = connection.execute(select(identity.c.id)).scalar_one()
    return found


def add_rename(connection: Connection, old: Json, new: Json, now: datetime) -> None:
    """Store a rename; annotations that were refused are read again, as they may be answers now."""
    connection.execute(insert(renames), {"old": old, "new": new, "at": now})
    again = update(given).where(given.c.refused.is_not(None))
    connection.execute(again.values(updated_at=datetime.fromtimestamp(0, now.tzinfo)))
    labeling = watermarks.c.name.like("label studio project %")
    connection.execute(update(watermarks).where(labeling).values(seq=0))


def read_renames(connection: Connection) -> Renamer:
    """All renames, in their order."""
    rows = connection.execute(select(renames.c.old, renames.c.new).order_by(renames.c.seq))
    return Renamer([(row.old, row.new) for row in rows])


_MIGRATIONS = Path(__file__).with_name("migrations")
_BUSY_SECONDS = 30
_READ_ONLY = "flywheel_read_only"
_REVISION_DIGITS = 4
"""of a migration, which the name of its file begins with"""
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

    def __init__(self, engine: Engine, scratch: TemporaryDirectory[str] | None = None) -> None:
        self.engine = engine
        self._scratch = scratch
        self._readers = engine.execution_options(**{_READ_ONLY: True})
        self.load_renames()

    @classmethod
    def open(cls, url: str, *, creates: bool = True) -> Ledger:
        """The ledger at a SQLAlchemy URL, created or migrated when needed.

        Without `creates`, a SQLite file that is missing stays missing: the ledger is an empty one
        elsewhere until it is closed, for commands that only read.

        Raises:
            SettingsError: the URL names no database that SQLAlchemy knows, a folder that
                cannot be written, a file that is no database, or a ledger of a revision that
                this version does not know.
            UnavailableError: the database does not answer.
            DamagedError: the file was cut off: nothing is in it.
        """
        scratch = None
        if not creates and not _is_there(url):
            scratch = TemporaryDirectory(prefix="flywheel-empty-")
            url = f"sqlite:///{scratch.name}/ledger.db"
        engine = _engine(url)
        try:
            _migrate(engine)
        except OperationalError as error:
            engine.dispose()
            raise UnavailableError(
                f"the ledger {engine.url!r} does not open: {_in_one_line(error)}; "
                "check that its folder can be written, or that its server runs"
            ) from error
        except (DatabaseError, UnicodeDecodeError) as error:  # the latter of SQLite's own message
            engine.dispose()
            raise SettingsError(
                f"storage.ledger = {engine.url!r} is no ledger: {getattr(error, 'orig', error)}; "
                "name another file or database, or restore this one from a back-up"
            ) from error
        except SettingsError:
            engine.dispose()
            raise
        return cls(engine, scratch)

    @property
    def rename(self) -> Renamer:
        """Gives an answer the names that its classes have now."""
        renamer: Renamer = getattr(self.engine.dialect, RENAME)
        return renamer

    def load_renames(self) -> None:
        """Read the renames again; all answers that are read from now on have the names of now."""
        with self.read() as connection:
            setattr(self.engine.dialect, RENAME, read_renames(connection))

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
        if self._scratch is not None:
            self._scratch.cleanup()


@contextmanager
def naming_failures(engine: Engine) -> Iterator[None]:
    """One line in place of the statement with all of its values, which are no one's business.

    Raises:
        UnavailableError: the database or its disk failed.
        DamagedError: the file holds other bytes than were written.
    """
    try:
        yield
    except DatabaseError as error:
        if type(error) is DatabaseError:  # the file itself, not a statement
            raise DamagedError(
                f"the ledger {engine.url!r} is damaged: {_in_one_line(error)}. Restore the newest "
                "back-up that is whole: flywheel restore FOLDER --force"
            ) from error
        if not isinstance(error, OperationalError):
            raise
        raise UnavailableError(
            f"the ledger {engine.url!r} failed: {_in_one_line(error)}; nothing of this transaction is stored: "
            "see that its disk has room and its server runs, then run this again"
        ) from error


def _is_there(url: str) -> bool:
    """Whether a ledger may be opened without creating it."""
    try:
        parsed = make_url(url)
    except ArgumentError:
        return True  # opening it says what is wrong
    is_file = parsed.get_backend_name() == "sqlite" and parsed.database
    return not is_file or Path(str(parsed.database)).exists()


def _refuse_cut_off(path: Path) -> None:
    """Refuse a file of 0 bytes, unless another process is creating it at this moment."""
    try:
        found = path.stat()
    except OSError:
        return
    if path.is_file() and found.st_size == 0 and time.time() - found.st_mtime > _BUSY_SECONDS:
        raise DamagedError(
            f"the ledger {path} is empty, 0 bytes: it was cut off. Restore a back-up with flywheel "
            "restore FOLDER --force, or remove the file to begin anew"
        )


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
        if database:
            Path(database).parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise SettingsError(
            f"storage.ledger: {database} cannot be created: {error.strerror}; "
            "choose a folder that you may write"
        ) from error
    if database:
        _refuse_cut_off(Path(database))
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
def _head() -> str:
    """The newest migration, by the names of the files."""
    return max(file.name for file in (_MIGRATIONS / "versions").glob("*.py"))[:_REVISION_DIGITS]


def _revision(connection: Connection) -> str | None:
    """The migration that the schema is at; Alembic's own question takes half a second to import."""
    if not inspect(connection).has_table("alembic_version"):
        return None
    found: str | None = connection.scalar(text("SELECT version_num FROM alembic_version"))
    return found


def _migrate(engine: Engine) -> None:
    """Bring the schema up to date.

    Raises:
        SettingsError: a revision that this version does not know.
    """
    with engine.execution_options(**{_READ_ONLY: True}).connect() as connection:
        if _revision(connection) == _head():
            return
    from alembic import command  # noqa: PLC0415 - see _revision
    from alembic.config import Config  # noqa: PLC0415 - see _revision
    from alembic.util import CommandError  # noqa: PLC0415 - see _revision

    config = Config()
    config.set_main_option("script_location", str(_MIGRATIONS).replace("%", "%%"))
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        if connection.dialect.name == "postgresql":  # two that open a new ledger at once
            connection.execute(select(func.pg_advisory_xact_lock(_MIGRATION_LOCK)))
        if _revision(connection) is None:
            serving_tables.incomplete.metadata.create_all(connection, checkfirst=False)
            draw_identity(connection)
            command.stamp(config, "head")
            return
        try:
            command.upgrade(config, "head")
        except CommandError as error:
            raise SettingsError(
                f"storage.ledger = {engine.url!r} was written by another version of flywheel, "
                f"newer than this or from before the first release: {error}. "
                "Install the version that wrote it, or name another ledger"
            ) from error
