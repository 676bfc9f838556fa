"""The demo of the digits: three nights in minutes."""

from __future__ import annotations

from pathlib import Path

from flywheel.examples.annotators import choosing_hand
from flywheel.examples.demos import Demo, Habits
from flywheel.examples.digits.task import CLASSES
from flywheel.examples.digits.world import DriftingScans


def demo() -> Demo:
    """The demo of the digits project."""
    return Demo(
        name="digits",
        settings="examples/digits/flywheel.toml",
        directory=Path("demo/digits"),
        target="demo",
        nights=3,
        world=lambda seed: DriftingScans(seed=seed),
        hand=lambda task, arrived: choosing_hand(arrived, task.labeling, CLASSES),
        annotators={
            "ada": Habits(error_rate=0.02, seconds_per_answer=4.0, leave_rate=0.2),
            "ben": Habits(error_rate=0.04, seconds_per_answer=3.0, leave_rate=0.1),
            "cleo": Habits(error_rate=0.07, seconds_per_answer=2.0, leave_rate=0.05),
        },
    )
