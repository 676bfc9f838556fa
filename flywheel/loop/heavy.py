"""The steps that want a GPU: one process at a time does one, in the night's run or elsewhere.

A night that was killed may have left such a step running on another machine. Whoever comes next
waits for it here, and then finds its result in the ledger.
"""

from __future__ import annotations

from typing import Any, TypeVar

from flywheel.ledger.locks import hold
from flywheel.ledger.nights import last_night
from flywheel.loop.context import Loop, NightRun, Progress, Step
from flywheel.loop.night import EVALUATE, RETRAIN

HEAVY: dict[str, Step[Any]] = {step.name: step for step in (RETRAIN, EVALUATE)}
"""by name"""

_LOCK = "heavy step"

Result = TypeVar("Result")


def do_heavy(run: NightRun, step: Step[Result]) -> Result:
    """Run a heavy step of a night, unless another process does so: then wait for its result.

    Raises:
        BusyError: another process was at it for longer than the settings allow.
    """
    loop = run.loop
    patience = 60.0 * loop.project.workers.gpu_wait_minutes
    with hold(loop.ledger, _LOCK, loop.now, patience_seconds=patience):
        return run.do(step)


def join_night(loop: Loop, number: int, progress: Progress) -> NightRun | None:
    """An open night, for a step that whoever holds the loop waits for; None when it is over."""
    with loop.ledger.read() as connection:
        night = last_night(connection)
    if night is None or night.number != number or night.finished_at is not None:
        return None
    return NightRun(loop=loop, number=number, started_at=night.started_at, progress=progress)
