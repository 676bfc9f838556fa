"""The work pools that a project's runs go to.

Its own are made here, as process pools; those of the team, of whatever type, are used and never
made, changed or deleted. Which is which is decided by the name, see `flywheel.stack.sharing`.
"""

from __future__ import annotations

from typing import Any

from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.actions import WorkPoolCreate, WorkPoolUpdate
from prefect.client.schemas.objects import WorkPool
from prefect.exceptions import ObjectNotFound

from flows.registration.manifests import run_environment
from flywheel import stack
from flywheel.errors import SettingsError
from flywheel.project import Project

_PAGE = 200


def check_pools(client: SyncPrefectClient, project: Project) -> None:
    """Check that the team's pools exist, and that the project's own are not another project's.

    Raises:
        SettingsError: with the command that makes the pool, or the setting to change.
    """
    for key, name in _wanted(project).items():
        pool = read_pool(client, name)
        if not stack.is_own(project, name):
            if pool is None:
                raise SettingsError(
                    f"[workers] {key} = {name!r} is not a work pool of {project.prefect.url}; make it "
                    f"with prefect work-pool create {name} --type process (or docker, kubernetes: "
                    "see deployments/README.md), or write one that prefect work-pool ls shows"
                )
        elif pool is not None and not _is_ours(project, pool):
            raise SettingsError(
                f"work pool {name!r} is another project's ({pool.description or 'it does not say which'}); write another "
                f"project.name, or another [workers] {key}"
            )


def make_pools(client: SyncPrefectClient, project: Project) -> list[str]:
    """Make the project's own pools that are missing; returns their names.

    A GPU pool has one slot, so that runs wait for the GPU in the pool. One that an earlier version
    made gets the template of today.
    """
    made = []
    for key, name in _wanted(project).items():
        if not stack.is_own(project, name):
            continue
        if read_pool(client, name) is not None:
            client.update_work_pool(name, WorkPoolUpdate(base_job_template=_template()))
            continue
        wanted = WorkPoolCreate(
            name=name,
            type="process",
            description=_description(project),
            base_job_template=_template(),
            concurrency_limit=1 if key == "gpu_pool" else None,
        )
        client.create_work_pool(wanted)
        made.append(name)
    return made


def _template() -> dict[str, Any]:
    """How a pool of ours starts a run: no job variable changes the command or the environment."""
    fixed = {"command": None, "env": run_environment(), "labels": {}, "name": None}
    return {
        "job_configuration": {**fixed, "stream_output": True, "working_dir": None},
        "variables": {"type": "object", "properties": {}, "additionalProperties": False},
    }


def remove_pools(
    client: SyncPrefectClient, project: Project, *, but: Project | None = None
) -> list[str]:
    """Delete the pools named after a project with all runs that wait in them; returns their names.

    Args:
        client: to Prefect's server.
        project: whose.
        but: keeps the pools that these settings name.
    """
    kept = set(_wanted(but).values()) if but else set()
    gone = []
    for pool in _all(client):
        if _is_ours(project, pool) and pool.name not in kept:
            client.delete_work_pool(pool.name)
            gone.append(pool.name)
    return gone


def pool_ids(client: SyncPrefectClient, project: Project) -> list[str]:
    """The resource ids of a project's pools, as events name them."""
    pools = [client.read_work_pool(name) for name in sorted(set(_wanted(project).values()))]
    return [f"prefect.work-pool.{pool.id}" for pool in pools]


def read_pool(client: SyncPrefectClient, name: str) -> WorkPool | None:
    """A pool by its name, or None."""
    try:
        return client.read_work_pool(name)
    except ObjectNotFound:
        return None


def _wanted(project: Project) -> dict[str, str]:
    """Key of [workers] -> name of the pool."""
    pools = {"pool": stack.run_pool(project), "gpu_pool": stack.gpu_pool(project)}
    return {key: name for key, name in pools.items() if name}


def _all(client: SyncPrefectClient) -> list[WorkPool]:
    found: list[WorkPool] = []
    while page := client.read_work_pools(limit=_PAGE, offset=len(found)):
        found += page
    return found


def _is_ours(project: Project, pool: WorkPool) -> bool:
    """Whether this project made the pool; a worker of an earlier version wrote no description."""
    made_here = pool.description == _description(project)
    by_worker = pool.name == f"flywheel-{project.name}" and not pool.description
    return stack.is_own(project, pool.name) and (made_here or by_worker)


def _description(project: Project) -> str:
    return f"Runs of the flywheel project {project.name}."
