"""The demo of the robot cell: five nights, and the metric revisited after three."""

from __future__ import annotations

from pathlib import Path

from flywheel.examples.demos import Demo, Habits, Revisit
from flywheel.examples.pose.annotators import marking_hand
from flywheel.examples.pose.part import EXAMPLE_PART, load_part
from flywheel.examples.pose.world import RobotCell

_SKILL_PX = 0.4
"""one sigma of an annotator's mark, in pixels of the sample, which is shown eight times larger"""

_GRASPS_COUNT = """
optimize = "grasped"
higher_is_better = true
requirement = 0.95
require = ["error_cm.p90 < 1.0", "error_deg.p90 < 10", "latency_ms.p95 < 100"]
ignore = ["flywheel.examples.pose:picks_per_hour", "error_deg.median", "error_cm.below(0.5)"]
"""


def demo() -> Demo:
    """The demo of the pose project: a robot that grasps brackets from a bin."""
    part = load_part(EXAMPLE_PART)
    return Demo(
        name="pose",
        settings="examples/pose/flywheel.toml",
        directory=Path("demo/pose"),
        target="demo-pose",
        nights=5,
        world=lambda seed: RobotCell(part=part, seed=seed),
        hand=lambda _task, arrived: marking_hand(arrived, part, _SKILL_PX),
        annotators={
            "ada": Habits(error_rate=0.02, seconds_per_answer=35.0, leave_rate=0.1),
            "ben": Habits(error_rate=0.04, seconds_per_answer=28.0, leave_rate=0.1),
            "cleo": Habits(error_rate=0.08, seconds_per_answer=20.0, leave_rate=0.05),
        },
        revisit=Revisit(
            after_night=3,
            section=_GRASPS_COUNT,
            because=(
                "orientation is good enough to ask for more: what counts now is whether the "
                "gripper closes on the part, with position, angle and run time as bounds"
            ),
        ),
    )
