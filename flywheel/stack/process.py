"""Starts a process that outlives this one, records it, and ends it with all its descendants.

Every service leads a session of its own, so a signal meant for us never reaches it. It carries a
mark in its environment, by which its descendants are found even after it was killed. `stack.json`
holds one record for each process that was started, with its pid and its start time, so that a
pid which the system has given to another program is never mistaken for ours.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import threading
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import psutil

from flywheel.errors import UnavailableError, UserError
from flywheel.private import PRIVATE_MASK, private_folder, write_private

HEALTH = {"prefect": "/api/health", "label-studio": "/health/", "model-server": "/health"}
"""server -> the path below its address that answers 200, without a password, when it is ready"""
MARK_VARIABLE = "FLYWHEEL_STACK"
"""environment variable that holds the service and the project of a process"""

_BIRTH_TOLERANCE_SECONDS = 2.0
"""the system clock may be set while a server runs; a pid is not given out again that fast"""


_POLITE_SECONDS = 15.0
"""between SIGTERM and SIGKILL; Prefect's server needs a few to close its database"""


@dataclass(frozen=True, kw_only=True, slots=True)
class Service:
    """A program to start, and how to check that it answers."""

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
    """printed when it is started"""
    setting: str = ""
    """key of flywheel.toml that holds the url"""
    own: str = ""
    """what to do if the program on its port is such a server of the user's own; "": there is none"""
    settings: str = ""
    """digest of what it reads of flywheel.toml when it starts"""
    start_seconds: float = 120.0
    """time limit for the first answer"""


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
        """The living process, or None when it has ended or another program has its pid."""
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
        UserError: stack.json does not hold such records.
    """
    path = _path(state)
    try:
        records = json.loads(path.read_text(encoding="utf-8"))
        return {record["name"]: Server(**record) for record in records}
    except FileNotFoundError:
        return {}
    except (ValueError, TypeError, KeyError) as error:
        raise UserError(
            f"{path} is not a list of servers ({error}); end what still runs by hand, then remove it"
        ) from error


def write_servers(state: Path, servers: dict[str, Server]) -> None:
    """Replace all records in one step."""
    records = [asdict(servers[name]) for name in sorted(servers)]
    write_private(_path(state), json.dumps(records, indent=2) + "\n")


def _path(state: Path) -> Path:
    return state / "stack.json"


def spawn(service: Service, state: Path) -> Server:
    """Start a service; its output goes to logs/NAME.log, the last run's to NAME.log.1.

    Raises:
        UnavailableError: the program cannot be started.
    """
    log = state / "logs" / f"{service.name}.log"
    private_folder(log.parent)
    service.directory.mkdir(parents=True, exist_ok=True)
    if log.exists():
        log.replace(log.with_name(f"{log.name}.1"))
    try:
        with log.open("wb") as output:
            child = subprocess.Popen(
                service.argv,
                cwd=service.directory,
                env={**service.env, MARK_VARIABLE: _mark_of(service.name, state)},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                umask=PRIVATE_MASK,
            )
    except OSError as error:
        raise UnavailableError(
            f"{service.name}: cannot start {service.argv[0]}: {error.strerror}; make setup installs it"
        ) from error
    # We are its parent: without a thread that waits for it, it would stay as a zombie.
    threading.Thread(target=child.wait, name=f"wait-{service.name}", daemon=True).start()
    return Server(
        name=service.name,
        pid=child.pid,
        create_time=_create_time(child.pid),
        url=service.url,
        started_at=datetime.now(UTC).isoformat(timespec="seconds"),
        log=str(log),
        settings=service.settings,
    )


def stop(servers: Sequence[Server], state: Path, *, runaways: bool = True) -> list[str]:
    """End these servers and their descendants; returns the names of those that were alive.

    Politely first: SIGTERM to each leader, and after 15 s SIGKILL to what is left. `runaways` are
    descendants that lead a session of their own, such as a worker's flow runs.
    """
    families = {server.name: _family(server, state, runaways) for server in servers}
    leaders = [leader for server in servers if (leader := server.process()) is not None]
    for leader in leaders:
        _send(leader, signal.SIGTERM)
    _wait_for_end(leaders)
    # Listed again, since a server may have started another child meanwhile.
    left = {process for server in servers for process in _family(server, state, runaways)}
    for process in left:
        _send(process, signal.SIGKILL)
    _wait_for_end(list(left))
    return sorted(name for name, family in families.items() if family)


def last_lines(server: Server, count: int = 15) -> str:
    """The end of a server's log."""
    text = Path(server.log).read_text(encoding="utf-8", errors="replace")
    return "\n".join(text.rstrip().splitlines()[-count:]) or "(it printed nothing)"


def _create_time(pid: int) -> float:
    try:
        return psutil.Process(pid).create_time()
    except psutil.NoSuchProcess:
        return time.time()  # it has ended already, and no other process can have its pid this soon


def _family(server: Server, state: Path, runaways: bool) -> set[psutil.Process]:
    """The leader if it is alive, and every process that carries its mark.

    A mark is inherited and names the project and the service, so no other process has it.
    """
    leader = server.process()
    marked = (
        process
        for process in psutil.process_iter()
        if mark_of(process) == _mark_of(server.name, state)
    )
    family = {process for process in marked if runaways or _is_member(process, server.pid)}
    return family | ({leader} if leader else set())


def _wait_for_end(processes: Sequence[psutil.Process]) -> None:
    """Return when all have ended, or after 15 s.

    A zombie has ended too: in a container the orphans of an earlier command may never be reaped.
    """
    end = time.monotonic() + _POLITE_SECONDS
    while time.monotonic() < end and any(
        process.is_running() and not _is_zombie(process.pid) for process in processes
    ):
        time.sleep(0.05)


def _is_member(process: psutil.Process, session: int) -> bool:
    try:
        return os.getsid(process.pid) == session
    except (ProcessLookupError, PermissionError):
        return False


def _is_zombie(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def _mark_of(name: str, state: Path) -> str:
    return f"{name}@{state}"


def mark_of(process: psutil.Process) -> str | None:
    """The mark of a process: its service and its state folder; None: it is not ours to read."""
    try:
        return process.environ().get(MARK_VARIABLE)
    except psutil.Error:
        return None


def _send(process: psutil.Process, number: signal.Signals) -> None:
    try:
        process.send_signal(number)  # psutil compares the start time first
    except psutil.NoSuchProcess:
        return
