"""The servers of one project on this machine: start, stop, list, and how to reach them.

A server whose url is not on loopback is neither started nor stopped. All files are kept in the
project's state folder, and all servers bind to loopback. Label Studio's SQLite file is copied from
an empty one and set to write ahead, with which uploads and imports take a third of the time.
"""

from __future__ import annotations

import hashlib
import ipaddress
import os
import shutil
import sqlite3
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from flywheel.errors import SettingsError
from flywheel.project import Project
from flywheel.stack import catalogue
from flywheel.stack.credentials import credentials_file, ensure_credentials, read_credentials
from flywheel.stack.pools import gpu_pool, run_pool
from flywheel.stack.process import Server, Service, read_servers
from flywheel.stack.supervise import Progress, port_of, start_all, stop_all

_PATIENCE_SECONDS = 10.0


SERVICES = ("prefect", "label-studio", "model-server")
"""what `up` starts by default; there are also the workers"""
_READ_BY_SERVER = dict.fromkeys(
    ("project", "storage", "serve", "collect", "dataset", "prefect"), True
) | {"train": {"device"}}
"""sections and keys of flywheel.toml that the model server reads when it starts"""


@dataclass(frozen=True, kw_only=True, slots=True)
class Login:
    """How a person logs in to Label Studio."""

    url: str
    email: str
    password_file: Path
    """JSON, readable by its owner only; the password is under "password" """


def up(
    project: Project,
    services: Sequence[str] = SERVICES,
    *,
    pool: str | None = None,
    progress: Progress = print,
) -> list[Server]:
    """Start these services unless they run, wait until they answer, and return their processes.

    A server whose url is not on this machine is left alone. A worker starts after the servers that
    it needs, and serves the project's work pool, or `pool`. `progress` gets a line for each event.

    Raises:
        SettingsError: a name is not a service, or two services have one port.
        BusyError: a port is taken by another program, or another command is at work here.
        UnavailableError: a program is missing, ended at once or does not answer.
    """
    builders = _builders(project, pool)
    unknown = sorted(set(services) - set(builders))
    if unknown:
        raise SettingsError(f"no service {', '.join(unknown)}; there are {', '.join(builders)}")
    chosen = [name for name in builders if name in services]
    for name in [name for name in chosen if not is_loopback(_urls(project).get(name))]:
        progress(f"{name}: {_urls(project)[name]} is not on this machine's loopback; not started")
        chosen.remove(name)
    built = [builders[name]() for name in chosen]
    _refuse_shared_port(built)
    first = [service for service in built if service.url is not None]
    then = [service for service in built if service.url is None]
    if "label-studio" in chosen:
        copy_empty_database(project.state / "label-studio", catalogue.empty_database())
    started = start_all(first, project.state, progress)
    if "label-studio" in chosen:
        write_ahead(project.state / "label-studio")  # now or at a later start: it only speeds up
    return started + start_all(then, project.state, progress)


def down(project: Project, *, only: str | None = None, progress: Progress = print) -> list[str]:
    """End the processes that `up` started for this project; returns the names of those alive.

    Flow runs of a worker end with it. `only` names one service.
    """
    return stop_all(project.state, progress, only=only)


def running(project: Project) -> list[Server]:
    """The processes of this project's stack that are alive, whether or not they answer."""
    servers = read_servers(project.state)
    return [servers[name] for name in sorted(servers) if servers[name].process() is not None]


def environment(project: Project) -> dict[str, str]:
    """The environment variables of the model server and clients; those set already take precedence."""
    known = {"PREFECT_API_URL": f"{project.prefect.url.rstrip('/')}/api"}
    credentials = read_credentials(project.state)
    if credentials is not None and is_loopback(project.labeling.url):
        known["LABEL_STUDIO_API_KEY"] = credentials.token
        if credentials.webhook_secret is not None:
            known["FLYWHEEL_WEBHOOK_SECRET"] = credentials.webhook_secret
    if password := os.environ.get("PREFECT_SERVER_API_AUTH_STRING"):
        known["PREFECT_API_AUTH_STRING"] = password  # a server that we start asks for it
    names = (
        *("PREFECT_API_URL", "PREFECT_API_AUTH_STRING"),
        *("LABEL_STUDIO_API_KEY", "FLYWHEEL_WEBHOOK_SECRET"),
    )
    return known | {name: os.environ[name] for name in names if os.environ.get(name)}


def login(project: Project) -> Login:
    """How a person logs in to the local Label Studio; draws its secrets if there are none yet."""
    return Login(
        url=project.labeling.url,
        email=ensure_credentials(project.state).email,
        password_file=credentials_file(project.state),
    )


def _refuse_shared_port(services: Sequence[Service]) -> None:
    """Refuse one port for two services: the second would seem to run, since the first answers."""
    owners: dict[int, Service] = {}
    for service in services:
        if service.url is None:
            continue
        port = port_of(service.url)
        other = owners.setdefault(port, service)
        if other is not service:
            raise SettingsError(
                f"{other.name} and {service.name} both have port {port}; write two different ones "
                f"in flywheel.toml, {other.setting} and {service.setting}"
            )


def outdated(project: Project) -> bool:
    """Whether the model server runs with settings that have changed since it started."""
    server = read_servers(project.state).get("model-server")
    return (
        server is not None
        and server.process() is not None
        and server.settings != _read_by_server(project)
    )


def copy_empty_database(data: Path, empty: Path) -> None:
    """Copy the empty database into a data folder that has none, which saves the migrations."""
    path = data / "label_studio.sqlite3"
    if path.exists() or not empty.exists():
        return
    data.mkdir(parents=True, exist_ok=True)
    scratch = path.with_suffix(f".{os.getpid()}.tmp")
    shutil.copyfile(empty, scratch)
    scratch.replace(path)


def write_ahead(data: Path) -> bool:
    """Set the database of a data folder to write ahead; False when there is none, or it is busy.

    Safe while Label Studio runs: it opens the file anew for each request.
    """
    path = data / "label_studio.sqlite3"
    if not path.exists():
        return False
    try:
        with closing(sqlite3.connect(path, timeout=_PATIENCE_SECONDS)) as connection:
            (mode,) = connection.execute("PRAGMA journal_mode=WAL").fetchone()
    except sqlite3.OperationalError:
        return False
    return bool(mode == "wal")


def _read_by_server(project: Project) -> str:
    read = project.model_dump_json(include=_READ_BY_SERVER)
    return hashlib.sha256(read.encode()).hexdigest()[:12]


def _builders(project: Project, pool: str | None) -> dict[str, Callable[[], Service]]:
    """Name -> builder of the service; only a builder that is called looks for its program."""
    state, directory = project.state, project.directory
    return {
        "prefect": lambda: catalogue.prefect_server(state / "prefect", project.prefect.url),
        "label-studio": lambda: catalogue.label_studio(
            state / "label-studio", project.labeling.url, ensure_credentials(state)
        ),
        "model-server": lambda: catalogue.model_server(
            directory, project.server_url, environment(project), _read_by_server(project)
        ),
        "worker": lambda: catalogue.prefect_worker(
            directory, pool or run_pool(project), environment(project)
        ),
        "gpu-worker": lambda: catalogue.prefect_worker(
            directory, gpu_pool(project) or "", environment(project), name="gpu-worker"
        ),
    }


def _urls(project: Project) -> dict[str, str]:
    return {
        "prefect": project.prefect.url,
        "label-studio": project.labeling.url,
        "model-server": project.server_url,
    }


def is_loopback(url: str | None) -> bool:
    """Whether a url is on this machine; so is a service without a url."""
    host = urlsplit(url).hostname if url else "localhost"
    if host in {None, "localhost"}:
        return True
    try:
        return ipaddress.ip_address(str(host)).is_loopback
    except ValueError:
        return False
