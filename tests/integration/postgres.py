"""A PostgreSQL for the tests, from the programs that are installed."""

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import create_engine, text
from sqlalchemy.exc import OperationalError


@dataclass(frozen=True, kw_only=True, slots=True)
class PostgresServer:
    """A running PostgreSQL whose one user needs no password."""

    url: str
    """for SQLAlchemy, without the name of a database"""
    user: str
    port: int
    programs: Path
    """the folder of initdb, postgres and, mostly, of pg_dump"""


def new_database(server: PostgresServer, name: str) -> str:
    """Make an empty database; return its address for SQLAlchemy."""
    engine = create_engine(f"{server.url}/postgres", isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.execute(text(f"CREATE DATABASE {name}"))
    engine.dispose()
    return f"{server.url}/{name}"


def find_programs() -> Path | None:
    """The folder of initdb and postgres, on the path or where distributions put it."""
    found = shutil.which("initdb")
    folders = [Path(found).parent] if found else []
    folders += sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    return next((path for path in folders if (path / "postgres").exists()), None)


@contextlib.contextmanager
def run_postgres(programs: Path, *, is_durable: bool = False) -> Iterator[PostgresServer]:
    """Run it on a free port, with a folder that goes with it; by default no commit waits for the disk."""
    # PostgreSQL refuses to run as root; then it runs as its own user.
    owner = {"user": "postgres", "group": "postgres"} if os.getuid() == 0 else {}
    with tempfile.TemporaryDirectory() as folder, socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
        probe.close()
        if owner:
            shutil.chown(folder, "postgres", "postgres")
        init = [programs / "initdb", "-D", f"{folder}/data", "-U", "postgres", "-A", "trust", "-N"]
        subprocess.run(init, check=True, capture_output=True, cwd=folder, **owner)
        start = [programs / "postgres", "-D", f"{folder}/data", "-k", folder, "-p", str(port)]
        start += [] if is_durable else ["-F"]
        with Path(folder, "log").open("w") as log:
            process = subprocess.Popen(
                [*start, "-h", "127.0.0.1"], stdout=log, stderr=log, cwd=folder, **owner
            )
        try:
            url = f"postgresql+psycopg://postgres@127.0.0.1:{port}"
            _wait(f"{url}/postgres", process)
            yield PostgresServer(url=url, user="postgres", port=port, programs=programs)
        finally:
            process.send_signal(signal.SIGINT)  # fast shutdown
            process.wait(30)


def _wait(url: str, process: subprocess.Popen) -> None:
    engine, deadline = create_engine(url), time.monotonic() + 30
    while True:
        try:
            engine.connect().close()
            return engine.dispose()
        except OperationalError:
            assert process.poll() is None, "PostgreSQL ended while it was starting"
            assert time.monotonic() < deadline, "PostgreSQL does not answer after 30 seconds"
            time.sleep(0.1)
