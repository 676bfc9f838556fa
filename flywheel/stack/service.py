"""What a service is, and what is remembered of one that runs.

`stack.json` holds one record for each process that was started. A record names the process by
its number and its birth, so that a number which the system gave to somebody else is never
mistaken for ours. Nothing here starts or ends anything.
"""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass, field
from pathlib import Path

import psutil

from flywheel.errors import UserError

MARK_VARIABLE = "FLYWHEEL_STACK"
"""environment variable by which a process says to which service of which project it belongs"""

_BIRTH_TOLERANCE_SECONDS = 2.0
"""the system clock may be set while a server runs; a number is not given out again that fast"""


@dataclass(frozen=True, kw_only=True, slots=True)
class Service:
    """A program to start, and how to tell that it answers."""

    name: str
    """of its log file and its record"""
    argv: tuple[str, ...]
    env: dict[str, str] = field(repr=False)
    """the whole environment of the process; it holds secrets"""
    directory: Path
    """where it runs; made when it is missing"""
    url: str | None = None
    """where it answers, on loopback; None for a worker, which listens nowhere"""
    health: str | None = None
    """path below the url that answers 200 when it is ready"""
    ready_line: str | None = None
    """what a service without a url writes to its log when it is ready"""
    note: str = ""
    """told when it is started"""
    setting: str = ""
    """key of flywheel.toml that holds the url"""
    settings: str = ""
    """digest of what it reads of flywheel.toml when it starts"""
    start_seconds: float = 120.0
    """it is given up when it does not answer after that long"""


@dataclass(frozen=True, kw_only=True, slots=True)
class Server:
    """A process that this project started."""

    name: str
    pid: int
    create_time: float
    """seconds since 1970, from the system's process table"""
    url: str | None
    started_at: str
    """ISO 8601, UTC"""
    log: str
    """file with all that it printed"""
    settings: str = ""
    """digest of what it has read of flywheel.toml"""

    def process(self) -> psutil.Process | None:
        """The living process, or None when it has ended or its number is somebody else's."""
        try:
            process = psutil.Process(self.pid)
            born = process.create_time()
            alive = process.status() != psutil.STATUS_ZOMBIE
        except psutil.NoSuchProcess:
            return None
        return (
            process if alive and abs(born - self.create_time) < _BIRTH_TOLERANCE_SECONDS else None
        )


def read_servers(state: Path) -> dict[str, Server]:
    """The records of a project's state folder by name, of the living and of the dead.

    Raises:
        UserError: stack.json holds something else.
    """
    path = _path(state)
    try:
        records = json.loads(path.read_text(encoding="utf-8"))
        return {record["name"]: Server(**record) for record in records}
    except FileNotFoundError:
        return {}
    except (ValueError, TypeError, KeyError) as error:
        raise UserError(
            f"{path} is no list of servers ({error}); end what still runs by hand, then remove it"
        ) from error


def write_servers(state: Path, servers: dict[str, Server]) -> None:
    """Put the records in place of the ones that are there, all or none."""
    path = _path(state)
    scratch = path.with_suffix(f".{os.getpid()}.tmp")
    records = [asdict(servers[name]) for name in sorted(servers)]
    scratch.write_text(json.dumps(records, indent=2) + "\n", encoding="utf-8")
    scratch.replace(path)


def _path(state: Path) -> Path:
    return state / "stack.json"
