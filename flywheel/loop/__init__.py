"""A night, step by step: where the stages meet. Knows nothing of Prefect."""

from flywheel.loop.context import Loop, NightRun, Step, begin_night, between_nights, open_loop

__all__ = ["Loop", "NightRun", "Step", "begin_night", "between_nights", "open_loop"]
