"""Which Prefect and Label Studio a project uses: its own, or those of a project that was there first.

Projects of one user on one machine share both servers by design, since each takes a quarter of a
gigabyte. The one that starts a server owns it: its database, secrets and log stay in the owner's
state folder, and any of them may start it again from there.

A work pool named after the project is its own: it is made, served on this machine and removed again.
Any other pool belongs to the team and is only used.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import httpx

from flywheel.errors import BusyError, SettingsError
from flywheel.ledger import Ledger
from flywheel.ledger.campaigns import all_campaigns
from flywheel.ledger.engine import project_id
from flywheel.project import FILE_NAME, Project, load_project, secret
from flywheel.shell import quoted
from flywheel.stack.process import HEALTH, read_servers
from flywheel.stack.supervise import owner_of_port, port_of
from flywheel.web import is_loopback

SHARED = ("prefect", "label-studio")
"""servers that hold several projects; a model server holds one"""

_THEIRS = {"prefect": "PREFECT_API_URL", "label-studio": "LABEL_STUDIO_API_KEY"}
"""server -> the variable by which a user means one of their own on this machine"""
_DATABASES = {"prefect": "prefect.db", "label-studio": "label_studio.sqlite3"}
_HELD = {"prefect": "schedules", "label-studio": "labeling tasks"}
_SETTINGS = {"prefect": "[prefect] url", "label-studio": "[labeling] url"}
_HEALTH_SECONDS = 2.0


def owners(project: Project) -> dict[str, Project]:
    """Service -> the other project whose server this one uses, as `flywheel up` has found them."""
    found = {name: _owner_in(folder, name, project) for name, folder in _recorded(project).items()}
    return {
        name: other
        for name, other in found.items()
        if other is not None and url_of(other, name) == url_of(project, name)
    }


def _owner_in(folder: Path, name: str, project: Project) -> Project | None:
    """The project in a folder, or the one whose server it uses itself by now."""
    other, seen = _project_in(folder), {project.directory}
    while other is not None and other.directory not in seen:
        seen.add(other.directory)
        further = _recorded(other).get(name)
        if further is None:
            return other
        other = _project_in(further)
    return None


def state_of(project: Project, service: str) -> Path:
    """The state folder that a server's secrets and data are in."""
    return owners(project).get(service, project).state


def find_owners(project: Project) -> dict[str, Project]:
    """The same, after a look at who listens on the ports now; what is found is remembered.

    A server that holds something is not left: the Label Studio that has this project's labeling tasks,
    or of the projects that share it, and a Prefect with schedules.

    Raises:
        BusyError: another project's server listens where this project's own has to be.
        SettingsError: the project's labeling tasks are in the Label Studio of a project that is gone, or
            that has another address.
    """
    known, own = owners(project), read_servers(project.state)
    if (home := _home_of_tasks(project)) is not None:
        known["label-studio"] = home
        if home.directory == project.directory:
            del known["label-studio"]
    for name in SHARED:
        is_own = name in own and own[name].process() is not None
        if name in known or is_own:
            continue
        other = _owner_now(project, name)
        if other is None:
            continue
        if _is_used(project.state, name):
            raise BusyError(
                f"{name}: {url_of(project, name)} is that of project {other.name!r}, and the one of "
                f"{project.name!r} has {_HELD[name]}. Write another port in "
                f"{project.directory / FILE_NAME}, {_SETTINGS[name]}, or stop that one with flywheel down "
                f"{quoted(other.directory)}"
            )
        known[name] = other
    _record(project, known)
    return known


def _sent_to(project: Project) -> tuple[str, list[int]]:
    """The project's id, and its projects in a Label Studio that we start."""
    is_ours = is_loopback(project.labeling.url) and not secret(_THEIRS["label-studio"])
    if not is_ours or not project.state.exists():
        return "", []
    with closing(Ledger.open(project.ledger_url)) as ledger, ledger.read() as connection:
        used = [one.external_project for one in all_campaigns(connection) if one.is_used]
        return project_id(connection), [int(number) for number in used if number is not None]


def _home_of_tasks(project: Project) -> Project | None:
    """The project whose Label Studio has this one's labeling tasks; None: none that is known has them."""
    mine, numbers = _sent_to(project)
    if not numbers:
        return None
    recorded, now = _recorded(project).get("label-studio"), _owner_now(project, "label-studio")
    states = [project.state, *([recorded / project.state.name] if recorded else [])]
    states += [now.state] if now is not None else []
    home = next((state for state in states if _holds(state, mine, numbers)), None)
    if home == project.state:
        return project
    other = _project_in(home.parent) if home is not None else None
    place, toml = "label-studio", project.directory / FILE_NAME
    where = f"label-studio: the labeling tasks of {project.name!r} are in the one of"
    if other is None and recorded is not None and not (recorded / FILE_NAME).exists():
        raise SettingsError(
            f"{where} {recorded}, where no project is any more. Put it back, or delete "
            f"{_path(project)} to send them anew"
        )
    if other is not None and url_of(other, place) != url_of(project, place):
        raise SettingsError(
            f"{where} project {other.name!r}, {url_of(other, place)}. Correct [labeling] url in {toml}"
        )
    return other


def _holds(state: Path, mine: str, numbers: Sequence[int]) -> bool:
    """Whether a Label Studio has one of a flywheel project's projects, by the id in its description."""
    rows = _read(state, "label-studio", "SELECT id, description FROM project")
    return any(number in numbers and mine in (said or "") for number, said in rows)


def _is_used(state: Path, name: str) -> bool:
    """Whether a server that was started from a state folder holds what is nowhere else."""
    table = "project" if name == "label-studio" else "deployment"
    return bool(_read(state, name, f"SELECT 1 FROM {table} LIMIT 1"))  # noqa: S608 - one of two names


def _read(state: Path, name: str, query: str) -> list[Any]:
    """The rows of a server's own database; [] where it has none."""
    path = state / name / _DATABASES[name]
    if not path.exists():
        return []
    try:
        with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as connection:
            return connection.execute(query).fetchall()
    except sqlite3.Error:  # it has never been started
        return []


def is_theirs(project: Project, name: str) -> bool:
    """Whether a server is the user's own: it is elsewhere, or it answers and the environment means it.

    Without PREFECT_API_URL or LABEL_STUDIO_API_KEY a program on the port is a stranger's, whom no
    secret may reach.
    """
    if name not in SHARED:
        return False
    url = url_of(project, name)
    if not is_loopback(url):
        return True
    named = (secret(_THEIRS[name]) or "").replace("//localhost:", "//127.0.0.1:")
    is_meant = named.startswith(url) if name == "prefect" else bool(named)
    own = read_servers(state_of(project, name)).get(name)
    if not is_meant or (own is not None and own.process() is not None):
        return False
    try:
        with httpx.Client(trust_env=False, timeout=_HEALTH_SECONDS) as client:
            return client.get(f"{url}{HEALTH[name]}").status_code == httpx.codes.OK
    except httpx.HTTPError:
        return False


def answering(project: Project) -> dict[str, Any]:
    """What the model server at a project's address says of itself; {} where none answers."""
    url = f"{project.server_url}{HEALTH['model-server']}"
    try:
        said = httpx.get(url, timeout=_HEALTH_SECONDS, trust_env=not is_loopback(url)).json()
    except (httpx.HTTPError, httpx.InvalidURL, ValueError):
        return {}  # none, or another program
    return said if isinstance(said, dict) else {}


def url_of(project: Project, service: str) -> str:
    """The address of Prefect or Label Studio, as the settings have it."""
    url = project.prefect.url if service == "prefect" else project.labeling.url
    return url.rstrip("/").replace("//localhost:", "//127.0.0.1:")


def _owner_now(project: Project, service: str) -> Project | None:
    """The project whose server listens on the port; None: no one does, or it is no flywheel's."""
    state = owner_of_port(port_of(url_of(project, service)), service)
    other = _project_in(state.parent) if state is not None else None
    if other is None or other.directory == project.directory or service in owners(other):
        return None
    return other if url_of(other, service) == url_of(project, service) else None


def _project_in(folder: Path) -> Project | None:
    if not (folder / FILE_NAME).exists():
        return None
    try:
        return load_project(folder)
    except SettingsError:
        return None


def _recorded(project: Project) -> dict[str, Path]:
    """Server -> the folder of the project that owns it, as it was found at some time."""
    try:
        stored = json.loads(_path(project).read_text(encoding="utf-8"))
        return {name: Path(stored[name]) for name in SHARED if name in stored}
    except (FileNotFoundError, ValueError, TypeError):
        return {}


def _record(project: Project, known: Mapping[str, Project]) -> None:
    if known or _path(project).exists():
        folders = {name: str(other.directory) for name, other in known.items()}
        _path(project).write_text(json.dumps(folders, indent=2) + "\n", encoding="utf-8")


def _path(project: Project) -> Path:
    return project.state / "shared.json"


def run_pool(project: Project) -> str:
    """The work pool of all flows: [workers] pool, else the project's own."""
    return project.workers.pool or _own(project)


def gpu_pool(project: Project) -> str | None:
    """The work pool that trains and scores; None: the run of the night does it itself."""
    return project.workers.gpu_pool


def is_own(project: Project, pool: str) -> bool:
    """Whether a pool is named after the project: flywheel-digits, flywheel-digits-gpu."""
    return pool == _own(project) or pool.startswith(f"{_own(project)}-")


def own_workers(project: Project) -> dict[str, str]:
    """Service name -> work pool of the workers that the project has on this machine."""
    pools = {"worker": run_pool(project)}
    if (gpu := gpu_pool(project)) and gpu != run_pool(project):
        pools["gpu-worker"] = gpu
    return {name: pool for name, pool in pools.items() if is_own(project, pool)}


def _own(project: Project) -> str:
    return f"flywheel-{project.name}"
