"""Reads what Prefect's server has planned for a project, and which of its runs failed.

Its timeout is short: a person at a terminal waits for the answer.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from uuid import UUID

import httpx
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.filters import (
    DeploymentFilter,
    DeploymentFilterId,
    DeploymentFilterTags,
    FlowRunFilter,
    FlowRunFilterState,
    FlowRunFilterStateName,
    FlowRunFilterStateType,
)
from prefect.client.schemas.objects import FlowRun, StateType
from prefect.client.schemas.responses import DeploymentResponse
from prefect.client.schemas.sorting import FlowRunSort

from flows.helpers.client import ask_server
from flywheel.errors import UnavailableError
from flywheel.project import FILE_NAME, Project

_TIMEOUT_SECONDS = 3.0
_WENT_WRONG = (StateType.FAILED, StateType.CRASHED)
_REFUSED = "Refused"
"""a request from the form was refused; the person who made it has read why"""
_MOST_RUNS = 50


@dataclass(frozen=True, kw_only=True, slots=True)
class Planned:
    """The plans and failures of one project."""

    directory: Path | None
    """the project's folder as registered; None: nothing is registered under its name"""
    is_paused: bool
    """of the night's deployment, or of its schedule"""
    next_night: datetime | None
    num_late: int
    """runs whose time has come and that no worker takes up"""
    failed: tuple[str, ...]
    """flows whose last run that ended went wrong: its name, why, and where to look"""

    def lines(self, project: Project) -> Iterator[str]:
        """The same as lines for a terminal."""
        here = project.directory
        if self.directory is None:
            yield f"schedule      none: flywheel schedule {here} runs the loop every night"
        elif self.directory != here:
            yield f"schedule      {_elsewhere(self.directory, here)}"
        elif self.is_paused:
            yield f"schedule      paused: resume it at {project.prefect_page}/deployments"
        elif self.next_night is None:
            yield "schedule      no night is planned; the server plans within a minute"
        else:
            yield f"schedule      next night {self.next_night:%Y-%m-%d %H:%M} UTC"
        if self.num_late:
            yield f"late          {self.num_late} runs wait for a worker: flywheel up {here}"
        for line in self.failed:
            yield f"failed        {line}"


def planned(project: Project) -> Planned:
    """Ask Prefect's server.

    Raises:
        UnavailableError: it does not answer, or refuses.
    """
    try:
        with ask_server(project, seconds=_TIMEOUT_SECONDS) as client:
            return _read(client, project)
    except (httpx.HTTPError, ValueError) as error:  # ValueError: another program answers there
        raise UnavailableError(
            f"Prefect at {project.prefect.url.rstrip('/')} does not say what is planned: "
            f"{error or type(error).__name__}; flywheel doctor {project.directory} says why"
        ) from error


def _read(client: SyncPrefectClient, project: Project) -> Planned:
    tagged = DeploymentFilter(tags=DeploymentFilterTags(all_=["flywheel", project.name]))
    found = client.read_deployments(deployment_filter=tagged)
    nightly = [entry for entry in found if str(entry.entrypoint).endswith(".nightly")]
    if not nightly:
        return Planned(directory=None, is_paused=False, next_night=None, num_late=0, failed=())
    schedules = nightly[0].schedules
    all_of = _only(*found)
    late = client.read_flow_runs(deployment_filter=all_of, flow_run_filter=_named("Late"))
    return Planned(
        directory=Path(nightly[0].parameters["directory"]),
        is_paused=nightly[0].paused or not any(entry.active for entry in schedules),
        next_night=_next_night(client, _only(nightly[0])),
        num_late=len(late),
        failed=tuple(_failures(client, all_of, project.prefect_page)),
    )


def _next_night(client: SyncPrefectClient, nightly: DeploymentFilter) -> datetime | None:
    runs = client.read_flow_runs(
        deployment_filter=nightly,
        flow_run_filter=_named("Scheduled"),
        sort=FlowRunSort.EXPECTED_START_TIME_ASC,
        limit=1,
    )
    return runs[0].expected_start_time if runs else None


def _failures(client: SyncPrefectClient, all_of: DeploymentFilter, page: str) -> Iterator[str]:
    """A line for each flow whose last finished run went wrong."""
    ended = FlowRunFilterStateType(any_=[StateType.COMPLETED, *_WENT_WRONG])
    last: dict[UUID | None, FlowRun] = {}
    for run in client.read_flow_runs(
        deployment_filter=all_of,
        flow_run_filter=FlowRunFilter(state=FlowRunFilterState(type=ended)),
        sort=FlowRunSort.END_TIME_DESC,
        limit=_MOST_RUNS,
    ):
        last.setdefault(run.deployment_id, run)
    for run in last.values():
        if run.state is not None and run.state.type in _WENT_WRONG and run.state.name != _REFUSED:
            why = (run.state.message or run.state.name or "").splitlines()[0]
            yield f"{run.name}: {why}; {page}/runs/flow-run/{run.id}"


def _only(*deployments: DeploymentResponse) -> DeploymentFilter:
    return DeploymentFilter(
        id=DeploymentFilterId(any_=[deployment.id for deployment in deployments])
    )


def _named(state: str) -> FlowRunFilter:
    return FlowRunFilter(state=FlowRunFilterState(name=FlowRunFilterStateName(any_=[state])))


def _elsewhere(registered: Path, here: Path) -> str:
    if (registered / FILE_NAME).exists():
        return f"the name is registered for {registered}; write another [project] name here"
    return (
        f"its runs look for it in {registered}, where no project is on this machine: "
        f"flywheel schedule {here} --moved"
    )
