"""What the server of Prefect says of a project: runs that are planned, failed or dead.

The client is that of the server of the project, independent of the PREFECT_API_URL of this process.
The timeout of reading is short: a person at a terminal waits for the answer. A worker that is stopped
ends its flow runs too, but the server goes on showing them as running, and they hold a slot of their
work pool for ever.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from uuid import UUID

import httpx
import psutil
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
from prefect.exceptions import ObjectNotFound
from prefect.settings import PREFECT_CLIENT_MAX_RETRIES, temporary_settings
from prefect.states import Crashed

from flywheel import stack
from flywheel.errors import UnavailableError
from flywheel.project import FILE_NAME, Project
from flywheel.shell import quoted
from flywheel.stack import environment
from flywheel.web import is_loopback, through


@contextmanager
def ask_server(
    project: Project, *, seconds: float, logs_in: bool = True
) -> Iterator[SyncPrefectClient]:
    """A client with a timeout in seconds and no retries, since a person is waiting."""
    url = f"{project.prefect.url.rstrip('/')}/api"
    password = environment(project).get("PREFECT_API_AUTH_STRING")
    client = SyncPrefectClient(
        url,
        auth_string=password if logs_in else None,
        httpx_settings={"timeout": seconds, "trust_env": not is_loopback(url)},
    )
    with temporary_settings({PREFECT_CLIENT_MAX_RETRIES: 0}), client:
        yield client


_READ_SECONDS = 3.0
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
        here = quoted(project.directory)
        if self.directory is None:
            yield f"schedule      none: flywheel schedule {here} runs the loop every night"
        elif self.directory != project.directory:
            yield f"schedule      {_elsewhere(self.directory, project.directory)}"
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
        with ask_server(project, seconds=_READ_SECONDS) as client:
            return _read(client, project)
    except (httpx.HTTPError, ValueError) as error:  # ValueError: another program answers there
        raise UnavailableError(
            f"Prefect at {project.prefect.url.rstrip('/')} does not say what is planned: "
            f"{error or type(error).__name__}{through(project.prefect.url)}; flywheel doctor {quoted(project.directory)} says why"
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
        f"flywheel schedule {quoted(here)} --moved"
    )


_CLOSE_SECONDS = 10.0
_CLOCK_SECONDS = 5.0
"""the times of a process and of a run come from two clocks"""
_UNFINISHED = [StateType.RUNNING, StateType.CANCELLING, StateType.PENDING]
_MESSAGE = "The worker was stopped, and this run's process with it."


def close_dead_runs(project: Project, progress: Callable[[str], None]) -> list[str]:
    """Mark the runs of a local Prefect server as crashed whose process on this machine has ended.

    Runs that have no process yet are left alone, and so are those of other kinds of worker. A server
    that does not answer or refuses is reported to `progress`, and its runs stay as they are. So do
    those of a server elsewhere, whose processes cannot be looked for. Returns the names of runs.
    """
    closed: list[str] = []
    if not stack.is_loopback(project.prefect.url):
        return closed
    try:
        with ask_server(project, seconds=_CLOSE_SECONDS) as client:
            for run in filter(_is_dead, _unfinished(client)):
                client.set_flow_run_state(run.id, Crashed(message=_MESSAGE), force=True)
                closed.append(run.name)
    except (httpx.HTTPError, ObjectNotFound) as error:
        progress(f"prefect: its unfinished flow runs were not looked at ({error})")
    for name in closed:
        progress(f"prefect: flow run {name} is marked as crashed, its process has ended")
    return closed


def _unfinished(client: SyncPrefectClient) -> list[FlowRun]:
    states = FlowRunFilterState(type=FlowRunFilterStateType(any_=_UNFINISHED))
    return client.read_flow_runs(flow_run_filter=FlowRunFilter(state=states))


def _is_dead(run: FlowRun) -> bool:
    """Whether the process of a run has ended; only process workers write a process id."""
    pid = run.infrastructure_pid or ""
    if not pid.isdecimal():
        return False
    try:
        process = psutil.Process(int(pid))
        if process.status() == psutil.STATUS_ZOMBIE:
            return True
        # A process that is younger than the run's start has reused the id of an older one.
        born = process.create_time() - _CLOCK_SECONDS
        return run.start_time is not None and born > run.start_time.timestamp()
    except psutil.NoSuchProcess:
        return True
