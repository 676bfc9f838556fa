"""The time that a run was meant for, when the schedule has made it."""

from __future__ import annotations

from prefect.context import FlowRunContext

from flywheel.loop import Slot


def slot() -> Slot | None:
    """The slot of this run; None for one that a person or an event has begun.

    Both times are of the clock of Prefect's server, which has made the run: whatever the clock
    of this machine says, the run is as late as it is.
    """
    context = FlowRunContext.get()
    run = context.flow_run if context is not None else None
    if run is None or not run.auto_scheduled or run.expected_start_time is None:
        return None
    begun = run.state.timestamp if run.state is not None else run.expected_start_time
    return Slot(at=run.expected_start_time, begun_at=begun)
