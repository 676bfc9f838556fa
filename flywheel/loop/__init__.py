"""The night and its steps: the only place where the stages meet, independent of Prefect."""

from flywheel.loop.context import (
    Beginning,
    Loop,
    NightRun,
    Slot,
    Step,
    begin_night,
    between_nights,
    join_night,
    open_loop,
)

__all__ = [
    "Beginning",
    "Loop",
    "NightRun",
    "Slot",
    "Step",
    "begin_night",
    "between_nights",
    "join_night",
    "open_loop",
]
