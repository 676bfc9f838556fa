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
from flywheel.loop.retrain import num_new_labels

__all__ = [
    "Beginning",
    "Loop",
    "NightRun",
    "Slot",
    "Step",
    "begin_night",
    "between_nights",
    "join_night",
    "num_new_labels",
    "open_loop",
]
