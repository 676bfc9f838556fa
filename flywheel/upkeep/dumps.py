"""Dumps a ledger to one file and loads it: SQLite by its online back-up, PostgreSQL by pg_dump.

Both copies are of one instant, whatever is written meanwhile. The caller reads from the same
instant which blobs the copy names.
"""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import TypeVar

from sqlalchemy import (
    Connection,
    Engine,
    create_engine,
    delete,
    func,
    inspect,
    make_url,
    select,
    text,
)
from sqlalchemy.exc import SQLAlchemyError

from flywheel.errors import BusyError, DamagedError, RefusedError, UnavailableError, UserError
from flywheel.ledger import Ledger
from flywheel.ledger.tables import locks, metadata

Answer = TypeVar("Answer")

_TIMEOUT_SECONDS = 6 * 3600
_OURS = (*sorted(metadata.tables), "alembic_version")


def is_sqlite(url: str) -> bool:
    """Whether a ledger is a SQLite file."""
    return make_url(url).get_backend_name() == "sqlite"


def dump_name(url: str) -> str:
    """The name of a ledger's copy in a back-up."""
    return "ledger.db" if is_sqlite(url) else "ledger.pgdump"


def dump(ledger: Ledger, path: Path, ask: Callable[[Connection], Answer]) -> Answer:
    """Copy the ledger to a new file; returns what `ask` reads from the same instant.

    Raises:
        UnavailableError: the database does not answer.
        DamagedError: the copy is damaged, as the ledger is.
        RefusedError: pg_dump is missing or fails.
    """
    if ledger.engine.dialect.name == "sqlite":
        source = Path(str(ledger.engine.url.database))
        copy_sqlite(source, path)
        if fault := sqlite_fault(path, thorough=True):
            raise DamagedError(
                f"{source} is damaged, so no back-up was made: {fault}. Restore the newest back-up "
                "that is whole: flywheel restore FOLDER --force"
            )
        engine = create_engine(f"sqlite:///{path}")
        try:
            with engine.connect() as connection:
                return ask(connection)
        except (SQLAlchemyError, ValueError) as error:  # rows that hold what no one wrote
            raise DamagedError(
                f"{source} is damaged, so no back-up was made: {error}. Restore the newest back-up "
                "that is whole: flywheel restore FOLDER --force"
            ) from error
        finally:
            engine.dispose()
    with ledger.engine.connect().execution_options(isolation_level="REPEATABLE READ") as connection:
        snapshot = connection.execute(select(func.pg_export_snapshot())).scalar_one()
        tables = [f"--table={name}" for name in _OURS]
        options = ["--format=custom", "--no-owner", "--no-privileges", f"--snapshot={snapshot}"]
        _run("pg_dump", ledger.engine, [*options, *tables, f"--file={path}"])
        _run("pg_restore", ledger.engine, ["--list", str(path)])  # reads what was written
        return ask(connection)


def copy_sqlite(source: Path, target: Path) -> None:
    """Copy a SQLite file consistently while others may be writing to it."""
    try:
        with (
            closing(
                sqlite3.connect(f"{source.absolute().as_uri()}?mode=ro", uri=True, timeout=30)
            ) as old,
            closing(sqlite3.connect(target)) as new,
        ):
            old.backup(new, pages=2000)
            new.execute("PRAGMA journal_mode=DELETE")  # one file, without a -wal beside it
    except sqlite3.Error as error:
        raise UnavailableError(
            f"{source} cannot be copied: {error}; make room or repair the disk, then try again"
        ) from error


def sqlite_fault(path: Path, *, thorough: bool = False) -> str | None:
    """What SQLite finds wrong in a file, without changing it; None when it is whole.

    The quick check reads every page; the thorough one also compares the indexes with the rows.
    """
    check = "integrity_check" if thorough else "quick_check"
    try:
        with closing(
            sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)
        ) as connection:
            (found,) = connection.execute(f"PRAGMA {check}(1)").fetchone()
    except (sqlite3.Error, UnicodeDecodeError) as error:  # the latter of SQLite's own message
        return str(error)
    return None if found == "ok" else " ".join(str(found).split())


def check_dump(path: Path) -> None:
    """Refuse a copy of a SQLite ledger that is damaged or newer than this flywheel.

    The copy is migrated and its locks are deleted: their holders no longer exist.
    """
    if fault := sqlite_fault(path, thorough=True):
        raise UserError(f"the ledger in this back-up is damaged: {fault}. Use another back-up.")
    with closing(Ledger.open(f"sqlite:///{path}")) as ledger, ledger.begin() as connection:
        connection.execute(delete(locks))
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA journal_mode=DELETE")


def refuse_in_use(url: str) -> None:
    """Refuse a ledger that another process has open.

    Raises:
        BusyError: a process has it open.
        UnavailableError: the database does not answer.
    """
    if not is_sqlite(url):
        engine = create_engine(url, connect_args={"connect_timeout": 10})
        query = (
            "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() "
            "AND pid <> pg_backend_pid() AND backend_type = 'client backend'"
        )
        try:
            with engine.connect() as connection:
                number = int(connection.execute(text(query)).scalar_one())
        except SQLAlchemyError as error:
            raise UnavailableError(
                f"the database {engine.url!r} does not answer: {error}; start it, then try again"
            ) from error
        finally:
            engine.dispose()
        if number:
            raise BusyError(
                f"{number} others are connected to {engine.url!r}; stop the model server and the "
                "workers of this project everywhere, then restore again"
            )
        return
    path = Path(str(make_url(url).database))
    if not path.exists():
        return
    try:
        with closing(sqlite3.connect(path, timeout=0.5)) as connection:
            connection.execute("PRAGMA locking_mode=EXCLUSIVE")
            connection.execute("BEGIN IMMEDIATE")
            connection.rollback()
    except sqlite3.OperationalError as error:
        raise BusyError(
            f"{path} is in use ({error}); stop what uses it: flywheel down, and flywheel serve or "
            "a night in other terminals; then restore again"
        ) from error
    except sqlite3.DatabaseError:
        return  # not a ledger: it can be moved aside


def has_tables(url: str) -> bool:
    """Whether a PostgreSQL database holds a ledger."""
    engine = create_engine(url, connect_args={"connect_timeout": 10})
    try:
        return bool(set(inspect(engine).get_table_names()) & set(_OURS))
    finally:
        engine.dispose()


def load_postgres(url: str, dumped: Path, aside: str) -> None:
    """Put a dump into a PostgreSQL database; what is there goes into a schema of another name.

    Raises:
        RefusedError: pg_restore is missing or fails; what was there is there again.
    """
    engine = create_engine(url)
    moved = has_tables(url)
    try:
        with engine.begin() as connection:
            schema = connection.execute(select(func.current_schema())).scalar_one()
            if moved:
                connection.execute(text(f'ALTER SCHEMA "{schema}" RENAME TO "{aside}"'))
                connection.execute(text(f'CREATE SCHEMA "{schema}"'))
        options = ["--no-owner", "--exit-on-error", "--single-transaction"]
        try:
            database = f"--dbname={_without_password(engine)}"
            _run("pg_restore", engine, [*options, database, str(dumped)])
        except RefusedError:
            if moved:
                with engine.begin() as connection:
                    connection.execute(text(f'DROP SCHEMA "{schema}" CASCADE'))
                    connection.execute(text(f'ALTER SCHEMA "{aside}" RENAME TO "{schema}"'))
            raise
        with engine.begin() as connection:
            connection.execute(delete(locks))
    finally:
        engine.dispose()


def _run(program: str, engine: Engine, arguments: list[str]) -> None:
    folders = sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    found = shutil.which(program) or next(
        (str(path / program) for path in folders if (path / program).exists()), None
    )
    if found is None:
        raise RefusedError(
            f"{program} is not on PATH; install PostgreSQL's client programs, of the server's "
            "version or newer (apt-get install postgresql-client)"
        )
    password = {"PGPASSWORD": engine.url.password} if engine.url.password else {}
    named = [] if program == "pg_restore" else [f"--dbname={_without_password(engine)}"]
    done = subprocess.run(
        [found, *named, *arguments],
        env={**os.environ, **password},
        capture_output=True,
        text=True,
        check=False,
        timeout=_TIMEOUT_SECONDS,
    )
    if done.returncode != 0:
        output = done.stderr.strip().splitlines()[-5:]
        raise RefusedError(
            f"{found} failed with status {done.returncode}; fix what it names, then try again:\n"
            + "\n".join(output)
        )


def _without_password(engine: Engine) -> str:
    """The URL for a command line, which every user of the machine can read."""
    url = engine.url.set(drivername="postgresql", password=None)
    return url.render_as_string(hide_password=False)
