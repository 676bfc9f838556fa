"""Flow runs: their names in a list, their slot in the schedule, their progress, and *Skipped*.

A run that comes when there is nothing for it to do ends Completed, with the name Skipped.
"""

from __future__ import annotations

import functools
import inspect
import os
import typing
from collections.abc import Callable
from pathlib import Path
from typing import Any, ParamSpec

from prefect.artifacts import create_progress_artifact, update_progress_artifact
from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import State
from prefect.context import FlowRunContext
from prefect.runtime import flow_run
from prefect.states import Completed

from flows.registration.manifests import DIRECTORY_VARIABLE
from flywheel.errors import BusyError, RefusedError, SettingsError, SupersededError
from flywheel.loop import Loop, Slot
from flywheel.project import load_project

Parameters = ParamSpec("Parameters")

PATIENCE_SECONDS = 3600.0
"""how long a night waits for work between nights, or for another run of itself"""
OUTAGE_SECONDS = 120.0
"""how long it waits for a ledger that does not answer when the night begins"""


def may_be_skipped(
    flow: Callable[Parameters, State[Any]],
) -> Callable[Parameters, State[Any]]:
    """End a flow as Skipped when another run is under way or has made it superfluous.

    Its first parameter is the project's directory, which is checked first.
    """

    @functools.wraps(flow)
    def run(*arguments: Parameters.args, **named: Parameters.kwargs) -> State[Any]:
        given: Any = arguments[0] if arguments else named.get("directory", Path())
        check_directory(Path(given))
        try:
            return flow(*arguments, **named)
        except (BusyError, SupersededError) as error:
            return skipped(str(error))

    # Prefect looks up the names of types in this module, where Path is not.
    vars(run)["__signature__"] = inspect.signature(flow, eval_str=True)
    run.__annotations__ = typing.get_type_hints(flow)
    return run


def check_directory(directory: Path) -> None:
    """Compare the folder of a run with what its worker and its deployment are registered for.

    A run's parameters come from the caller that started it, and the task in the folder is code.

    Raises:
        RefusedError: it is another folder.
    """
    registered = {own} if (own := os.environ.get(DIRECTORY_VARIABLE)) else set()
    context = FlowRunContext.get()
    run = context.flow_run if context is not None else None
    if run is not None and run.deployment_id is not None:
        with get_client(sync_client=True) as client:
            parameters = client.read_deployment(run.deployment_id).parameters
        registered.add(str(parameters.get("directory")))
    if registered - {str(directory)}:
        raise RefusedError(
            f"directory = {str(directory)!r} is not the registered project, "
            f"{' or '.join(sorted(registered))}. Run flywheel schedule in the folder whose flows are "
            "to run; a form must leave this field as it is."
        )


def skipped(why: str) -> State[Any]:
    """The end of a run that has done nothing."""
    return Completed(name="Skipped", message=why)


def run_name() -> str:
    """Project, flow and scheduled time, such as digits nightly 2026-11-23 02:00."""
    start = flow_run.scheduled_start_time
    return f"{project_name()} {flow_run.flow_name} {start:%Y-%m-%d %H:%M}"


def project_name() -> str:
    """The name of the run's project; where its settings cannot be read, that of its folder."""
    directory = Path(str(flow_run.parameters["directory"]))
    try:
        return load_project(directory).name
    except SettingsError:  # the flow itself says what is wrong; here the run would stay pending
        return directory.name


def slot() -> Slot | None:
    """The slot of the schedule that this run is for; None when a person or an event started it.

    Both times are from the clock of Prefect's server, which made the run, so how late it is does
    not depend on the clock of this machine.
    """
    context = FlowRunContext.get()
    run = context.flow_run if context is not None else None
    if run is None or not run.auto_scheduled or run.expected_start_time is None:
        return None
    begun = run.state.timestamp if run.state is not None else run.expected_start_time
    return Slot(at=run.expected_start_time, begun_at=begun)


def training_progress(loop: Loop) -> Callable[[int, int, float], None]:
    """A callable for each epoch of training; it updates Prefect 20 times at most."""
    bar: Any = None  # Prefect types its sync calls as maybe coroutines

    def report(epoch: int, epochs: int, loss: float) -> None:
        nonlocal bar
        if bar is None:
            bar = create_progress_artifact(
                progress=0.0,
                key=f"{loop.project.name}-training",
                description=f"first loss {loss:.4f}",
            )
        elif epoch == epochs or epoch % max(1, epochs // 20) == 0:
            update_progress_artifact(bar, 100.0 * epoch / epochs, f"loss {loss:.4f}")

    return report
