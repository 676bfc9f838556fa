"""Where a step runs: in the run of the night, or in the GPU pool."""

from __future__ import annotations

from typing import TypeVar

from flywheel.loop import NightRun, Step

Result = TypeVar("Result")


def do(run: NightRun, step: Step[Result]) -> Result:
    """Run a step of the night where it belongs."""
    return run.do(step)
