"""Runs a step in the GPU pool, as a flow run of its own, and waits for it.

The ledger has the result, whichever run did the step. So the ledger is asked whether the step is
done; Prefect is asked only whether there is still a run to wait for.
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

from flows.registration.manifests import deployment_name
from flywheel.errors import FlywheelError, SettingsError, UnavailableError
from flywheel.loop import NightRun, Step
from flywheel.shell import quoted

Result = TypeVar("Result")

_LOOK_SECONDS = 5.0


class Pool(Protocol):
    """Where the steps of a night may run outside the night's own run."""

    def start(self, run: NightRun, step: str) -> UUID:
        """Start a step there; returns the id of its run."""

    def state(self, run_id: UUID) -> State[Any] | None:
        """The state of that run; None when it cannot be read at the moment."""


@dataclass(frozen=True, slots=True)
class GpuPool:
    """The pool of [workers] gpu_pool, through the deployment gpu-step of the project."""

    def start(self, run: NightRun, step: str) -> UUID:
        """Start a step there; returns the id of its run.

        Raises:
            SettingsError: the project's gpu-step is not registered.
        """
        project = run.loop.project
        parameters = {"directory": str(project.directory), "night": run.number, "step": step}
        name = deployment_name(project.name, "gpu-step")
        try:
            # Prefect types its sync calls as maybe coroutines.
            begun: Any = run_deployment(name, parameters=parameters, timeout=0)
        except ObjectNotFound as error:
            raise SettingsError(
                f"workers.gpu_pool = {project.workers.gpu_pool!r}, but there is no deployment "
                f"{name}; run flywheel schedule {quoted(project.directory)}"
            ) from error
        run_id: UUID = begun.id
        return run_id

    def state(self, run_id: UUID) -> State[Any] | None:
        """The state of that run; None while Prefect's server does not answer."""
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
    """Run a step in the pool and return its result, for which the ledger is polled.

    A step that an earlier run of this night has left running there ends first, and the run started
    here then finds nothing to do.

    Raises:
        UnavailableError: the run's process or machine is gone; starting it again may help.
        FlywheelError: the run failed, or has not ended in time.
    """
    done = run.result(step)
    if done is not None:
        return done
    minutes = run.loop.project.workers.gpu_wait_minutes
    give_up = stopwatch() + 60.0 * minutes
    run_id = pool.start(run, step.name)
    while True:
        # Read before the ledger: a run that ends in between has its result there.
        state = pool.state(run_id)
        done = run.result(step)
        if done is not None:
            return done
        if state is not None and state.is_final():
            raise _ended(run, step.name, state, run_id)
        if stopwatch() > give_up:
            raise FlywheelError(
                f"the GPU pool has not done {step.name!r} of night {run.number} in {minutes} "
                f"minutes; its run is {state.name if state else 'unknown'}: {_link(run_id)}; "
                f"see whether a worker serves {run.loop.project.workers.gpu_pool!r}, or raise "
                "workers.gpu_wait_minutes; the next night uses the result if it still comes"
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
