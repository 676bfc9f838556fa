"""Closes flow runs that can never end, since the process that ran them is gone.

A worker that is stopped ends its flow runs too, but Prefect's server goes on showing them as
running, and they hold a slot of their work pool for ever.
"""

from __future__ import annotations

from collections.abc import Callable

import httpx
import psutil
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.filters import (
    FlowRunFilter,
    FlowRunFilterState,
    FlowRunFilterStateType,
)
from prefect.client.schemas.objects import FlowRun, StateType
from prefect.exceptions import ObjectNotFound
from prefect.states import Crashed

from flows.helpers.client import ask_server
from flywheel import stack
from flywheel.project import Project

_TIMEOUT_SECONDS = 10.0
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
        with ask_server(project, seconds=_TIMEOUT_SECONDS) as client:
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
