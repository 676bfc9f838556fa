"""Registers a project with Prefect's server: deployments, automations, work pools, notifications.

The files of deployments/ are registered, found again and removed. What can be refused is refused
before anything is changed. A project is identified by its directory and the id of its ledger.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.filters import DeploymentFilter, DeploymentFilterTags
from prefect.client.schemas.objects import ConcurrencyLimitConfig
from prefect.client.schemas.responses import DeploymentResponse
from prefect.client.schemas.schedules import CronSchedule
from prefect.deployments.runner import DeploymentApplyError, RunnerDeployment
from prefect.flows import Flow, load_flow_from_entrypoint
from prefect.schedules import Schedule
from prefect.types.entrypoint import EntrypointType

from flows.registration.automations import (
    VARIABLE,
    block_for,
    register_automations,
    remove_automations,
)
from flows.registration.manifests import OWN_ID, deployment_manifest
from flows.registration.pools import check_pools, make_pools, remove_pools
from flows.registration.server import ask_server
from flywheel import stack
from flywheel.errors import RefusedError, SettingsError
from flywheel.project import FILE_NAME, Project, secret
from flywheel.shell import quoted

_OWN_ID = re.compile(rf"^{OWN_ID}: `(\w+)`$", re.MULTILINE)
_TAG = "flywheel"  # every deployment in deployments/prefect.yaml has it
_PAGE = 200
_TIMEOUT_SECONDS = 10.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Registered:
    """What `register` did; values are created, updated, unchanged or removed."""

    pools: list[str]
    """names of the pools made now"""
    deployments: dict[str, str]
    """by name, such as nightly/digits-nightly"""
    automations: dict[str, str]
    """by name"""
    notifies: bool
    """FLYWHEEL_NOTIFY_URL is set, so failures are reported there"""


def check_registrable(project: Project, *, has_moved: bool = False) -> None:
    """Refuse what Prefect would refuse half-way, and what would replace another project.

    Args:
        project: to be registered.
        has_moved: take over what is registered for the folder where the project was.

    Raises:
        SettingsError: the cron line is invalid, the name is another folder's, a work pool is
            missing, or FLYWHEEL_NOTIFY_URL is not an address.
    """
    schedule = project.schedule
    try:
        CronSchedule(cron=schedule.cron, timezone=schedule.timezone)
    except ValueError as error:
        raise SettingsError(
            f"schedule.cron = {schedule.cron!r} in {schedule.timezone!r} is not a valid schedule; write "
            'five fields that cron knows, such as "0 2 * * *" for 02:00, and a zone such as UTC'
        ) from error
    if url := secret(VARIABLE):
        block_for(url)
    with get_client(sync_client=True) as client:
        _check_name(client, project, has_moved=has_moved)
        check_pools(client, project)


def register(project: Project) -> Registered:
    """Create or update the project's pools, deployments and automations; call `check_registrable` first.

    Raises:
        RefusedError: Prefect refuses the deployments.
    """
    with get_client(sync_client=True) as client:
        pools = make_pools(client, project)
        before = {_name(client, found): found for found in _of(client, project)}
        _deploy(project)
        after = {_name(client, found): found for found in _of(client, project)}
        wanted = _wanted_names(after, project)
        for name in after.keys() - wanted:
            client.delete_deployment(after[name].id)
        by_flow = {name.partition("/")[0]: after[name] for name in wanted}
        url = secret(VARIABLE)
        automations = register_automations(client, project, by_flow, url)
        remove_pools(client, project, but=project)
    return Registered(
        pools=pools,
        deployments={
            name: _change(before.get(name), after[name], name in wanted) for name in after
        },
        automations=automations,
        notifies=url is not None,
    )


def registered(project: Project) -> list[str]:
    """Names of the deployments of the project's directory, such as nightly/digits-nightly."""
    with get_client(sync_client=True) as client:
        return sorted(_name(client, found) for found in _of(client, project))


def is_open(project: Project) -> bool:
    """Whether the server asks for no password, so that any client that reaches it can start runs."""
    try:
        with ask_server(project, seconds=_TIMEOUT_SECONDS, logs_in=False) as client:
            client.api_version()
    except (httpx.HTTPError, ValueError):
        return False  # it asks for a password, or has stopped answering since the registration
    return True


def remove(project: Project, *, but_named: str | None = None) -> list[str]:
    """Delete the deployments of the project's directory, their automations and work pools.

    Args:
        project: its directory; the deployments of other directories are left alone.
        but_named: keep the deployments of this project name; they are registered anew.

    Returns:
        The names of the deleted deployments.
    """
    gone = []
    with get_client(sync_client=True) as client:
        names = {project.name}  # also when an earlier call was cut off after the deployments
        for found in [one for one in _of(client, project) if _project(one) != but_named]:
            gone.append(_name(client, found))
            names.add(_project(found))
            client.delete_deployment(found.id)
        for name in names - {but_named} - set(map(_project, _deployments(client))):
            # The server would keep an automation whose deployment is deleted, and fail each time.
            remove_automations(client, name)
            identity = project.project.model_copy(update={"name": name})
            remove_pools(client, project.model_copy(update={"project": identity}))
    return sorted(gone)


def _check_name(client: SyncPrefectClient, project: Project, *, has_moved: bool) -> None:
    named = [found for found in _deployments(client) if _project(found) == project.name]
    for found in [found for found in named if _directory(found) == project.directory]:
        theirs, ours = _own_id(found), stack.own_id(project)
        if theirs not in ("", ours) and not has_moved:
            raise SettingsError(
                f"project.name = {project.name!r} is scheduled on this Prefect server by a project in "
                f"a folder of the same name, with the id {theirs}, where this one has {ours}; write "
                "another name, or, if its ledger was made anew here, run flywheel schedule "
                f"{quoted(project.directory)} --moved"
            )
    for directory in sorted({_directory(found) for found in named} - {project.directory}):
        is_there = (directory / FILE_NAME).exists()
        if has_moved and not is_there:
            continue
        raise SettingsError(
            f"project.name = {project.name!r} is scheduled on this Prefect server for {directory}"
            + (
                f"; write another name, or first run flywheel unschedule {quoted(directory)}"
                if is_there
                else ", where no project is on this machine; if it has moved, run flywheel "
                f"schedule {quoted(project.directory)} --moved, else write another name"
            )
        )


def _deploy(project: Project) -> None:
    """Create or update what prefect.yaml lists, as prefect deploy does, which starts a process for it."""
    for entry in deployment_manifest(project, stack.own_id(project))["deployments"]:
        flow: Flow[..., Any] = load_flow_from_entrypoint(entry["entrypoint"])
        deployment = RunnerDeployment.from_flow(
            flow,
            name=entry["name"],
            description=entry["description"],
            tags=entry["tags"],
            parameters=entry["parameters"],
            schedules=[Schedule(**times) for times in entry.get("schedules", [])],
            work_pool_name=entry["work_pool"]["name"],
            job_variables=entry["work_pool"].get("job_variables"),
            concurrency_limit=ConcurrencyLimitConfig(**entry["concurrency_limit"]),
            entrypoint_type=EntrypointType.MODULE_PATH,
        )
        try:
            deployment.apply()
        except DeploymentApplyError as error:
            raise RefusedError(
                f"Prefect refuses the deployment {entry['name']!r}: {error}; fix what it names and run "
                "flywheel schedule again, it goes on from there"
            ) from error


def _wanted_names(after: dict[str, DeploymentResponse], project: Project) -> set[str]:
    wanted = {
        (entry["entrypoint"], entry["name"])
        for entry in deployment_manifest(project)["deployments"]
    }
    return {name for name, found in after.items() if (found.entrypoint, found.name) in wanted}


def _change(before: DeploymentResponse | None, now: DeploymentResponse, is_wanted: bool) -> str:
    if not is_wanted:
        return "removed"
    if before is None:
        return "created"
    return "unchanged" if _content(before) == _content(now) else "updated"


def _content(found: DeploymentResponse) -> dict[str, Any]:
    """What prefect.yaml and the flow define of a deployment."""
    names = {
        *("description", "tags", "entrypoint", "parameters", "parameter_openapi_schema"),
        *("work_pool_name", "job_variables", "concurrency_options"),
    }
    limit = found.global_concurrency_limit
    schedules = [
        (entry.slug, entry.schedule.model_dump(), entry.active) for entry in found.schedules
    ]
    return found.model_dump(include=names) | {
        "limit": limit and limit.limit,
        "schedules": schedules,
    }


def _of(client: SyncPrefectClient, project: Project) -> list[DeploymentResponse]:
    """The deployments of a project; a folder of the same name on another machine has its own."""
    found = [one for one in _deployments(client) if _directory(one) == project.directory]
    ids = {"", stack.own_id(project)} if any(map(_own_id, found)) else {""}
    return [one for one in found if _own_id(one) in ids]


def _deployments(client: SyncPrefectClient) -> list[DeploymentResponse]:
    tagged = DeploymentFilter(tags=DeploymentFilterTags(all_=[_TAG]))
    found: list[DeploymentResponse] = []
    while page := client.read_deployments(deployment_filter=tagged, limit=_PAGE, offset=len(found)):
        found += page
    return found


def _directory(deployment: DeploymentResponse) -> Path:
    return Path(str(deployment.parameters.get("directory", "")))


def _project(deployment: DeploymentResponse) -> str:
    """The project's name, which stands before the flow's; earlier versions wrote no flow."""
    flow = str(deployment.entrypoint).rpartition(".")[2].replace("_", "-")
    return deployment.name.removesuffix(f"-{flow}")


def _own_id(deployment: DeploymentResponse) -> str:
    """The id that stands at the end of its description; empty where none does."""
    found = _OWN_ID.search(deployment.description or "")
    return found[1] if found else ""


def _name(client: SyncPrefectClient, deployment: DeploymentResponse) -> str:
    return f"{client.read_flow(deployment.flow_id).name}/{deployment.name}"
