"""Which Prefect and Label Studio a project uses: its own, or those of a project that was there first.

Projects of one user on one machine share both servers by design, since each takes a quarter of a
gigabyte. The one that starts a server owns it: its database, secrets and log stay in the owner's
state folder, and any of them may start it again from there.

A work pool named after the project is its own: it is made, served on this machine and removed again.
Any other pool belongs to the team and is only used.
"""

from __future__ import annotations

import json
from contextlib import closing
from pathlib import Path
from typing import Any

import httpx

from flywheel.errors import BusyError, SettingsError
from flywheel.ledger import Ledger
from flywheel.ledger.campaigns import all_campaigns
from flywheel.project import FILE_NAME, Project, load_project, secret
from flywheel.shell import quoted
from flywheel.stack.process import HEALTH, read_servers
from flywheel.stack.supervise import owner_of_port, port_of
from flywheel.web import is_loopback

SHARED = ("prefect", "label-studio")
"""servers that hold several projects; a model server holds one"""

_THEIRS = {"prefect": "PREFECT_API_URL", "label-studio": "LABEL_STUDIO_API_KEY"}
"""server -> the variable by which a user means one of their own on this machine"""
_HEALTH_SECONDS = 2.0


def owners(project: Project) -> dict[str, Project]:
    """Service -> the other project whose server this one uses, as `flywheel up` has found them."""
    try:
        stored = json.loads(_path(project).read_text(encoding="utf-8"))
        folders = {name: Path(stored[name]) for name in SHARED if name in stored}
    except (FileNotFoundError, ValueError, TypeError):
        return {}
    found = {name: _project_in(folder) for name, folder in folders.items()}
    return {
        name: other
        for name, other in found.items()
        if other is not None and url_of(other, name) == url_of(project, name)
    }


def state_of(project: Project, service: str) -> Path:
    """The state folder that a server's secrets and data are in."""
    return owners(project).get(service, project).state


def find_owners(project: Project) -> dict[str, Project]:
    """The same, after a look at who listens on the ports now; what is found is remembered.

    Raises:
        BusyError: Label Studio's port is another project's, and labeling tasks of this one are in
            its own.
    """
    known = owners(project)
    own = read_servers(project.state)
    for name in SHARED:
        is_own = name in own and own[name].process() is not None
        if name in known or is_own:
            continue
        other = _owner_now(project, name)
        if other is None:
            continue
        if name == "label-studio" and _has_sent(project):
            raise BusyError(
                f"label-studio: {url_of(project, name)} is that of project {other.name!r}, and the "
                f"labeling tasks of {project.name!r} are in its own, {project.state / name}. Write "
                f"another port in {project.directory / FILE_NAME}, [labeling] url, or stop that one "
                f"with flywheel down {quoted(other.directory)}"
            )
        known[name] = other
    if known:
        folders = {name: str(other.directory) for name, other in known.items()}
        _path(project).write_text(json.dumps(folders, indent=2) + "\n", encoding="utf-8")
    return known


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


def _has_sent(project: Project) -> bool:
    """Whether labeling tasks of a project are in a Label Studio that it owns."""
    if not (project.state / "label-studio").exists():
        return False
    with closing(Ledger.open(project.ledger_url)) as ledger, ledger.read() as connection:
        return any(campaign.is_used for campaign in all_campaigns(connection))


def _project_in(folder: Path) -> Project | None:
    if not (folder / FILE_NAME).exists():
        return None
    try:
        return load_project(folder)
    except SettingsError:
        return None


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
