"""What Prefect's server holds for a project: deployments, their automations, the work pool.

`prefect deploy` with deployments/prefect.yaml puts it there; this checks beforehand, finds it
again and takes it away. A project is told from the others by its directory.
"""

from __future__ import annotations

from pathlib import Path

from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.filters import DeploymentFilter, DeploymentFilterTags
from prefect.client.schemas.responses import DeploymentResponse
from prefect.client.schemas.schedules import CronSchedule
from prefect.exceptions import ObjectNotFound

from flywheel.errors import SettingsError
from flywheel.project import Project

_TAG = "flywheel"  # every deployment in deployments/prefect.yaml has it
_PAGE = 200


def check_registrable(project: Project) -> None:
    """Refuse what Prefect would refuse half-way, and what would replace another project.

    Raises:
        SettingsError: the cron line means no time, or the name is another folder's.
    """
    schedule = project.schedule
    try:
        CronSchedule(cron=schedule.cron, timezone=schedule.timezone)
    except ValueError as error:
        raise SettingsError(
            f"schedule.cron = {schedule.cron!r} in {schedule.timezone!r} means no time; write "
            'five fields that cron knows, such as "0 2 * * *" for 02:00, and a zone such as UTC'
        ) from error
    with get_client(sync_client=True) as client:
        others = {
            _directory(found)
            for found in _deployments(client)
            if found.name == project.name and _directory(found) != project.directory
        }
    for directory in sorted(others):
        raise SettingsError(
            f"project.name = {project.name!r} is scheduled on this Prefect server for {directory}; "
            f"write another name, or first run flywheel unschedule {directory} (if that folder is "
            f"gone: prefect deployment delete nightly/{project.name}, and the same for "
            "label-hard-cases/ and ingest-labels/)"
        )


def registered(project: Project) -> list[str]:
    """Names of the deployments of the project's directory, such as nightly/digits."""
    with get_client(sync_client=True) as client:
        return sorted(_name(client, found) for found in _of(client, project))


def remove(project: Project, *, but_named: str | None = None) -> list[str]:
    """Delete the deployments of the project's directory, their automations and work pools.

    Args:
        project: whose; those of other directories are left alone.
        but_named: keeps the deployments of this project name; they are registered anew.

    Returns:
        Names of the deployments that are gone.
    """
    gone = []
    with get_client(sync_client=True) as client:
        for found in _of(client, project):
            if found.name == but_named:
                continue
            gone.append(_name(client, found))
            # The server would keep an automation whose deployment is deleted, and fail each time.
            client.delete_resource_owned_automations(f"prefect.deployment.{found.id}")
            client.delete_deployment(found.id)
            _delete_pool(client, found)
    return sorted(gone)


def _of(client: SyncPrefectClient, project: Project) -> list[DeploymentResponse]:
    return [found for found in _deployments(client) if _directory(found) == project.directory]


def _deployments(client: SyncPrefectClient) -> list[DeploymentResponse]:
    tagged = DeploymentFilter(tags=DeploymentFilterTags(all_=[_TAG]))
    found: list[DeploymentResponse] = []
    while page := client.read_deployments(deployment_filter=tagged, limit=_PAGE, offset=len(found)):
        found += page
    return found


def _directory(deployment: DeploymentResponse) -> Path:
    return Path(str(deployment.parameters.get("directory", "")))


def _name(client: SyncPrefectClient, deployment: DeploymentResponse) -> str:
    return f"{client.read_flow(deployment.flow_id).name}/{deployment.name}"


def _delete_pool(client: SyncPrefectClient, deployment: DeploymentResponse) -> None:
    """The pool is the project's own; all its deployments name it, and all but one find it gone."""
    pool = deployment.work_pool_name
    if pool != f"{_TAG}-{deployment.name}":
        return  # someone else's
    try:
        client.delete_work_pool(pool)
    except ObjectNotFound:
        return
