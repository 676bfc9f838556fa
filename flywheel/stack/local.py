"""The servers of one project on this machine: start, stop, list, and how to reach them.

A server whose url is not on loopback is neither started nor stopped. All files are kept in the
project's state folder, and all servers bind to loopback. SQLite files of both are copied from empty
ones; Label Studio's is set to write ahead, with which uploads and imports take a third of the time.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import sqlite3
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from flywheel.errors import BusyError, SettingsError
from flywheel.ledger import Ledger
from flywheel.ledger.engine import project_id
from flywheel.private import make_private, private_folder
from flywheel.project import FILE_NAME, Project, secret
from flywheel.stack import catalogue
from flywheel.stack.credentials import credentials_file, ensure_credentials, read_credentials
from flywheel.stack.process import Server, Service, read_servers
from flywheel.stack.sharing import (
    answering,
    find_owners,
    gpu_pool,
    is_theirs,
    run_pool,
    state_of,
    url_of,
)
from flywheel.stack.supervise import Progress, port_of, start_all, stop_all
from flywheel.web import is_loopback

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
    """JSON, readable by its owner only: the password is under "password", and what Prefect's
    dashboard asks for under "prefect_auth" """


def up(
    project: Project,
    services: Sequence[str] = SERVICES,
    *,
    pool: str | None = None,
    progress: Progress = print,
) -> list[Server]:
    """Start these services unless they run, wait until they answer, and return their processes.

    A server whose url is not on this machine is left alone, and so is one that `is_theirs`. A Prefect
    or Label Studio of another project of this user serves both, and starts from that folder. A worker
    starts after the servers that it needs, and serves the project's work pool, or `pool`.
    `progress` gets a line for each event.

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
    private_folder(project.state)
    make_private(project.state)
    of_others = []
    for name, other in find_owners(project).items():
        if name in chosen:
            chosen.remove(name)
            of_others += up(other, [name], progress=progress)
            progress(
                f"{name}: shared with project {other.name!r}, which owns it ({other.directory})"
            )
    for name in [name for name in chosen if is_theirs(project, name)]:
        progress(f"{name}: uses your own, which answers at {url_of(project, name)}")
        chosen.remove(name)
    if "model-server" in chosen:
        _refuse_other_project(project)
    built = [builders[name]() for name in chosen]
    _refuse_shared_port(built)
    first = [service for service in built if service.url is not None]
    then = [service for service in built if service.url is None]
    if "prefect" in chosen:
        copy_empty_database(project.state / "prefect", catalogue.empty_prefect())
    if "label-studio" in chosen:
        copy_empty_database(project.state / "label-studio", catalogue.empty_database())
    started = start_all(first, project.state, progress)
    if "label-studio" in chosen:
        write_ahead(project.state / "label-studio")  # now or at a later start: it only speeds up
    return of_others + started + start_all(then, project.state, progress)


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
    studio = read_credentials(state_of(project, "label-studio"))
    if studio is not None and is_loopback(project.labeling.url):
        known["LABEL_STUDIO_API_KEY"] = studio.token
        own = read_credentials(project.state)
        if own is not None and own.webhook_secret is not None:
            known["FLYWHEEL_WEBHOOK_SECRET"] = own.webhook_secret
    prefect = read_credentials(state_of(project, "prefect"))
    if prefect is not None and is_loopback(project.prefect.url) and prefect.prefect_auth:
        known["PREFECT_API_AUTH_STRING"] = prefect.prefect_auth
    if password := os.environ.get("PREFECT_SERVER_API_AUTH_STRING"):
        known["PREFECT_API_AUTH_STRING"] = password  # a server that we start asks for it
    names = (
        *("PREFECT_API_URL", "PREFECT_API_AUTH_STRING"),
        *("LABEL_STUDIO_API_KEY", "FLYWHEEL_WEBHOOK_SECRET"),
    )
    return known | {name: os.environ[name] for name in names if os.environ.get(name)}


def login(project: Project) -> Login:
    """How a person logs in to the local servers; draws their secrets if there are none yet."""
    state = state_of(project, "label-studio")
    return Login(
        url=project.labeling.url,
        email=ensure_credentials(state).email,
        password_file=credentials_file(state),
    )


def sign_in(project: Project, service: str) -> str:
    """How a person signs in to Prefect's dashboard or Label Studio, without the password itself."""
    if service == "label-studio":
        if is_theirs(project, service):
            key = "your" if secret("LABEL_STUDIO_API_KEY") else "set LABEL_STUDIO_API_KEY to your"
            return f"with your account there; nights use {key} access token"
        known = login(project)
        return f"as {known.email}, password in {known.password_file}"
    if is_theirs(project, service):
        return "with the password of that server, if it has one"
    state = state_of(project, service)
    drawn = ensure_credentials(state).prefect_auth
    for name in ("PREFECT_SERVER_API_AUTH_STRING", "PREFECT_API_AUTH_STRING"):
        if secret(name) not in (None, "", drawn):  # a command may have set it itself
            return f"sign in with your {name}"
    return f'sign in with "prefect_auth" in {credentials_file(state)}'


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
    path = data / empty.name
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
        "prefect": lambda: catalogue.prefect_server(
            state / "prefect", project.prefect.url, _prefect_auth(state), [project.prefect_page]
        ),
        "label-studio": lambda: catalogue.label_studio(
            state / "label-studio",
            project.labeling.url,
            ensure_credentials(state),
            [project.label_studio_page],
        ),
        "model-server": lambda: catalogue.model_server(
            directory, project.server_url, _known(project), _read_by_server(project)
        ),
        "worker": lambda: catalogue.prefect_worker(
            directory, pool or run_pool(project), environment(project)
        ),
        "gpu-worker": lambda: catalogue.prefect_worker(
            directory, gpu_pool(project) or "", environment(project), name="gpu-worker"
        ),
    }


def _known(project: Project) -> dict[str, str]:
    """The environment of the model server, which needs a secret of its own for its webhook."""
    ensure_credentials(project.state)
    return environment(project)


def _refuse_other_project(project: Project) -> None:
    """Raise when the model server of another project answers at the address of this one."""
    said = answering(project)  # a port that another program has is refused when it is started
    serves = said.get("project"), said.get("id")
    if serves[0] is None or serves == (project.name, own_id(project)):
        return
    raise BusyError(
        f"{project.server_url} is the model server of project {serves[0]!r}, id {serves[1]}, and "
        f"not of {project.name!r}. Write another [serve] port in {project.directory / FILE_NAME}, or "
        "stop that one with flywheel down in its folder."
    )


def own_id(project: Project) -> str:
    """The id of a project, from its ledger, which is made where there is none."""
    with closing(Ledger.open(project.ledger_url)) as ledger, ledger.read() as connection:
        return project_id(connection)


def _prefect_auth(state: Path) -> str:
    """What the server asks for: the user's own `user:password`, else the one drawn for it."""
    names = ("PREFECT_SERVER_API_AUTH_STRING", "PREFECT_API_AUTH_STRING")
    given = next(filter(None, map(secret, names)), None)
    return given or ensure_credentials(state).prefect_auth or ""


def _urls(project: Project) -> dict[str, str]:
    return {
        "prefect": project.prefect.url,
        "label-studio": project.labeling.url,
        "model-server": project.server_url,
    }
