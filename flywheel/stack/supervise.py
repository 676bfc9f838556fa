"""Brings services into the state that was asked for: running and answering, or ended.

One command at a time for each project. What runs is kept, what died is started again, and a
port that another program holds is refused before anything is started.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import socket
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import psutil

from flywheel.errors import BusyError, UnavailableError
from flywheel.private import private_folder
from flywheel.stack.process import (
    Server,
    Service,
    last_lines,
    mark_of,
    read_servers,
    spawn,
    stop,
    write_servers,
)

_POLL_SECONDS = 0.1
_KERNEL_SECONDS = 3.0
"""a killed program's port is free a moment after the program is gone"""
_HEALTH_TIMEOUT_SECONDS = 2.0

Progress = Callable[[str], None]


def start_all(services: Sequence[Service], state: Path, progress: Progress) -> list[Server]:
    """Start every service that does not run, wait until all answer, and return their records.

    Raises:
        BusyError: a port is taken by another program, or another command is at work here.
        UnavailableError: a service ended or did not answer in time; it is stopped, the others
            stay, and the message ends with its log.
    """
    with _lock(state):
        servers = read_servers(state)
        missing = [
            service for service in services if not _runs(service, servers.get(service.name), state)
        ]
        # What is left of a killed server, or one with earlier settings, may still hold a port. A
        # flow run that outlived its worker may go on: it ends by itself, and its night is done.
        left = [servers[service.name] for service in missing if service.name in servers]
        stop(left, state, runaways=False)
        _refuse_taken_ports(missing)
        began = time.monotonic()
        for service in missing:
            progress(f"{service.name}: starting{service.note and f' ({service.note})'}")
            servers[service.name] = spawn(service, state)
            write_servers(state, servers)
        waiting = {service.name: service for service in services}
        try:
            _wait(waiting, servers, began, progress)
        except UnavailableError:
            # A server that is not ready now is ended, so that the next start is a fresh one.
            stop([servers.pop(name) for name in waiting], state)
            write_servers(state, servers)
            raise
        return [servers[service.name] for service in services]


def stop_all(state: Path, progress: Progress, *, only: str | None = None) -> list[str]:
    """End what was started from this state folder, or one service of it; the names of those alive.

    Raises:
        BusyError: another command is at work here.
    """
    if not state.exists():
        return []
    with _lock(state):
        servers = read_servers(state)
        chosen = [server for name, server in servers.items() if only in {None, name}]
        stopped = stop(chosen, state)
        write_servers(
            state, {server.name: server for server in servers.values() if server not in chosen}
        )
    for name in stopped:
        progress(f"{name}: stopped")
    return stopped


def port_of(url: str) -> int:
    """The port of a url, by default that of its scheme."""
    parts = urlsplit(url)
    return parts.port or (443 if parts.scheme == "https" else 80)


def _runs(service: Service, server: Server | None, state: Path) -> bool:
    """Whether a service runs as it should; one without a url is recognized by its command line.

    One that was started before its project moved still looks where the project was, and one that
    was started before its settings changed still has the old ones.
    """
    if server is None or server.url != service.url or (process := server.process()) is None:
        return False
    if not Path(server.log).is_relative_to(state) or server.settings != service.settings:
        return False
    try:
        return service.url is not None or process.cmdline()[1:] == list(service.argv[1:])
    except psutil.Error:
        return False


def _wait(
    waiting: dict[str, Service], servers: dict[str, Server], began: float, progress: Progress
) -> None:
    """Return when all answer; those that do are removed from `waiting`."""
    with httpx.Client(trust_env=False, timeout=_HEALTH_TIMEOUT_SECONDS) as client:
        while waiting:
            for name, service in list(waiting.items()):
                seconds = time.monotonic() - began
                if _answers(service, servers[name], client):
                    del waiting[name]
                    progress(f"{name}: ready{_where(service)} ({seconds:.1f} s)")
                elif servers[name].process() is None:
                    raise _gone(service, servers[name], "ended")
                elif seconds > service.start_seconds:
                    raise _gone(service, servers[name], f"did not answer in {seconds:.0f} s")
            if waiting:
                time.sleep(_POLL_SECONDS)


def _answers(service: Service, server: Server, client: httpx.Client) -> bool:
    if server.process() is None:
        return False
    if service.url is None:
        return (service.ready_line or "") in last_lines(server, count=200)
    try:
        answer = client.get(f"{service.url.rstrip('/')}{service.health or '/'}")
    except httpx.TransportError:
        return False
    return answer.status_code == httpx.codes.OK


def _where(service: Service) -> str:
    return f" at {service.url}" if service.url else ""


def _gone(service: Service, server: Server, what: str) -> UnavailableError:
    return UnavailableError(
        f"{service.name} {what}; the end of {server.log}:\n{last_lines(server)}\n"
        f"Fix what the log names, then run the same command again."
    )


def _refuse_taken_ports(services: Sequence[Service]) -> None:
    """Refuse a taken port: Label Studio would silently use the next one, where nothing finds it."""
    end = time.monotonic() + _KERNEL_SECONDS
    faults = [fault for service in services if (fault := _taken_port(service, end)) is not None]
    if faults:
        raise BusyError("\n".join(faults))


def _taken_port(service: Service, end: float) -> str | None:
    """Why a service cannot have its port, and where to write another; None when it can."""
    if service.url is None:
        return None
    port, host = port_of(service.url), urlsplit(service.url).hostname
    while (fault := _bind_fault(host or "127.0.0.1", port)) is not None:
        holder = _holder(port)
        if holder is not None or time.monotonic() > end:
            return (
                f"{service.name}: port {port} cannot be used ({fault}; "
                f"{holder or 'holder not visible'}); end that program, "
                f"or write another port in flywheel.toml, {service.setting}{service.own}"
            )
        time.sleep(_POLL_SECONDS)
    return None


def _bind_fault(host: str, port: int) -> str | None:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            return error.strerror or str(error)
    return None


def owner_of_port(port: int, service: str) -> Path | None:
    """The state folder of the flywheel project of this user whose service listens on a port."""
    process = _listener(port)
    try:
        if process is None or process.uids().real != os.getuid():
            return None
    except psutil.Error:
        return None
    name, _, state = (mark_of(process) or "").partition("@")
    return Path(state) if name == service else None


def _holder(port: int) -> str | None:
    """The process that listens on a port, as far as the system shows it."""
    process = _listener(port)
    try:
        return f"held by pid {process.pid}, {process.name()}" if process is not None else None
    except psutil.Error:
        return None


def _listener(port: int) -> psutil.Process | None:
    try:
        listening = [
            connection.pid
            for connection in psutil.net_connections(kind="tcp")
            if connection.laddr and connection.laddr[1] == port and connection.status == "LISTEN"
        ]
        pid = next((pid for pid in listening if pid), None)
        return psutil.Process(pid) if pid else None
    except psutil.Error:
        return None


@contextlib.contextmanager
def _lock(state: Path) -> Iterator[None]:
    private_folder(state)
    path = state / "stack.lock"
    with path.open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise BusyError(
                f"another command is starting or stopping the servers of {state.parent} "
                f"({path} is locked); wait until it is done, then try again"
            ) from error
        yield
