"""Runs one heavy step of an open night in the GPU pool.

When: the night starts it when flywheel.toml has [workers] gpu_pool, and waits for it. Its worker
    needs the project's folder under the same path, and the project's database and blobs.
Why a re-run is safe: a step that is done is not run again, and two runs never do one at once. A run
    whose night was killed goes on; the next night waits for it and uses its result.
How it ends: Completed; named Skipped when the night is over or has done the step already.
Knobs: [workers] gpu_pool, gpu_wait_minutes; [train] device, processes.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from prefect import flow
from prefect.client.schemas.objects import State
from prefect.runtime import flow_run
from prefect.states import Completed

from flows.helpers.runs import check_directory, project_name, skipped, training_progress
from flows.helpers.spread import spreading
from flywheel.loop import join_night, open_loop
from flywheel.loop.steps import STEPS


def _name() -> str:
    """digits retrain of night 12."""
    given = flow_run.parameters
    return f"{project_name()} {given['step']} of night {given['night']}"


@flow(name="gpu-step", flow_run_name=_name)
def gpu_step(directory: Path, night: int, step: Literal["retrain", "evaluate"]) -> State[Any]:
    """Run one heavy step of a night that is under way.

    Args:
        directory: where the project's flywheel.toml is.
        night: its number.
        step: which one.
    """
    check_directory(directory)
    with open_loop(directory) as loop:
        run = join_night(loop, night, training_progress(loop))
        if run is None:
            return skipped(f"night {night} is not open, so no run waits for its {step!r}")
        wanted = next(entry for entry in STEPS if entry.name == step)
        if run.result(wanted) is not None:
            return skipped(f"night {night} has done {step!r} already")
        with spreading(run) as wide:
            result = wide.do(wanted)
    return Completed(message=str(getattr(result, "note", "")) or f"{step} of night {night} is done")
