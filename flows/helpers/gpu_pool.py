"""A step that runs in the GPU pool, as a run of its own, and the wait for it.

The ledger has the result, whoever did the step. So it is the ledger that is asked whether the
step is done; Prefect is asked only whether there is still something to wait for.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar
from uuid import UUID

import httpx
from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import State
from prefect.deployments import run_deployment
from prefect.exceptions import ObjectNotFound
from prefect.utilities.urls import url_for

from flywheel.errors import FlywheelError, SettingsError, UnavailableError
from flywheel.loop import NightRun, Step

Result = TypeVar("Result")

_LOOK_SECONDS = 5.0


class Pool(Protocol):
    """Where steps of a night may run besides the night's own run."""

    def start(self, run: NightRun, step: str) -> UUID:
        """Begin a step there; the id of its run."""

    def state(self, run_id: UUID) -> State[Any] | None:
        """How that run is; None when nobody can tell just now."""


@dataclass(frozen=True, slots=True)
class GpuPool:
    """The pool of [workers] gpu_pool, through the deployment gpu-step of the project."""

    def start(self, run: NightRun, step: str) -> UUID:
        """Begin a step there; the id of its run.

        Raises:
            SettingsError: the project's gpu-step is not registered.
        """
        project = run.loop.project
        parameters = {"directory": str(project.directory), "night": run.number, "step": step}
        try:
            # Prefect types its sync calls as maybe coroutines.
            begun: Any = run_deployment(
                f"gpu-step/{project.name}", parameters=parameters, timeout=0
            )
        except ObjectNotFound as error:
            raise SettingsError(
                f"workers.gpu_pool = {project.workers.gpu_pool!r}, but there is no deployment "
                f"gpu-step/{project.name}; run flywheel schedule {project.directory}"
            ) from error
        run_id: UUID = begun.id
        return run_id

    def state(self, run_id: UUID) -> State[Any] | None:
        """How that run is; None while Prefect's server does not answer."""
        try:
            with get_client(sync_client=True) as client:
                return client.read_flow_run(run_id).state
        except httpx.HTTPError:
            return None


def do_in_pool(
    run: NightRun,
    step: Step[Result],
    pool: Pool,
    *,
    look_seconds: float = _LOOK_SECONDS,
    stopwatch: Callable[[], float] = time.monotonic,
) -> Result:
    """Let the pool run a step, and wait for its result in the ledger.

    A step that an earlier run of this night has left running there ends first, and the run begun
    here then finds nothing to do.

    Raises:
        UnavailableError: the run's process or machine is gone; beginning it again may help.
        FlywheelError: the run failed, or has not come to an end in time.
    """
    done = run.result(step)
    if done is not None:
        return done
    minutes = run.loop.project.workers.gpu_wait_minutes
    give_up = stopwatch() + 60.0 * minutes
    run_id = pool.start(run, step.name)
    while True:
        # Asked before the ledger: what ends in between has its result there.
        state = pool.state(run_id)
        done = run.result(step)
        if done is not None:
            return done
        if state is not None and state.is_final():
            raise _ended(run, step.name, state, run_id)
        if stopwatch() > give_up:
            raise FlywheelError(
                f"the GPU pool has not done {step.name!r} of night {run.number} in {minutes} "
                f"minutes; its run is {state.name if state else 'not to be seen'}: {_link(run_id)}; "
                f"see whether a worker serves {run.loop.project.workers.gpu_pool!r}, or raise "
                "workers.gpu_wait_minutes; the next night takes the result if it comes yet"
            )
        time.sleep(look_seconds)


def _ended(run: NightRun, step: str, state: State[Any], run_id: UUID) -> FlywheelError:
    text = (
        f"{step!r} of night {run.number} ended in the GPU pool as {state.name}, without a result: "
        f"{state.message or 'no message'}; see {_link(run_id)}, then run the night again"
    )
    return UnavailableError(text) if state.is_crashed() else FlywheelError(text)


def _link(run_id: UUID) -> str:
    return url_for("flow-run", obj_id=run_id) or str(run_id)
