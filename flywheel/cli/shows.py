"""What a demo shows: a bundled project, its simulated production, and the people who label.

Everything else about a demo is the same for all of them, see `demo`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from flywheel.errors import UserError
from flywheel.records import Json
from flywheel.task import Task
from flywheel.tasks.digits import CLASSES
from flywheel.world import Arrival, DriftingScans, choosing_hand
from flywheel.world.annotators import Hand
from flywheel.world.hands import Arrived

_SKILL_PX = 0.4
"""how exactly a person marks a keypoint, in pixels of the sample; they are shown eight times larger"""


class World(Protocol):
    """A simulated production, fixed by its seed; it knows the truth."""

    def traffic(self, night: int) -> list[Arrival]:
        """What arrives in a night, the same at every call."""
        ...

    def truth_set(self, night: int, num_samples: int) -> list[Arrival]:
        """Arrivals like a night's that the product never sees."""
        ...

    def is_right(self, answer: Json, truth: Json) -> bool:
        """Whether an answer works out in the real world."""
        ...


@dataclass(frozen=True, kw_only=True, slots=True)
class Habits:
    """How a simulated annotator works, see `flywheel.world.Person`."""

    error_rate: float
    seconds_per_answer: float
    leave_rate: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Revisit:
    """The metric is chosen anew, as "this formula can and will change" says."""

    after_night: int
    section: str
    """the new [metric] section of flywheel.toml, without its heading"""
    because: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Show:
    """One demo."""

    name: str
    settings: str
    """of the project, a file of this package"""
    directory: Path
    """where the demo keeps its state unless told otherwise"""
    target: str
    """of make, which begins it"""
    nights: int
    """how many one call turns"""
    world: Callable[[int], World]
    """seed -> production"""
    hand: Callable[[Task, Arrived], Hand]
    people: Mapping[str, Habits]
    revisit: Revisit | None = None


def find_show(name: str) -> Show:
    """The demo of a name.

    Raises:
        UserError: there is none.
    """
    shows = {"digits": digits, "pose": pose}
    if name not in shows:
        raise UserError(f"{name!r} is no demo; known are {', '.join(shows)}")
    return shows[name]()


def digits() -> Show:
    """Scanned digits: three nights in minutes."""
    return Show(
        name="digits",
        settings="tasks/digits.toml",
        directory=Path("demo/digits"),
        target="demo",
        nights=3,
        world=lambda seed: DriftingScans(seed=seed),
        hand=lambda task, arrived: choosing_hand(arrived, task.labeling, CLASSES),
        people={
            "ada": Habits(error_rate=0.02, seconds_per_answer=4.0, leave_rate=0.2),
            "ben": Habits(error_rate=0.04, seconds_per_answer=3.0, leave_rate=0.1),
            "cleo": Habits(error_rate=0.07, seconds_per_answer=2.0, leave_rate=0.05),
        },
    )


def pose() -> Show:
    """A robot that grasps brackets from a bin: five nights, and the metric revisited after three."""
    # Only this demo needs the packages of the extra "pose".
    from flywheel.tasks.pose.part import EXAMPLE_PART, load_part
    from flywheel.world.bin import RobotCell
    from flywheel.world.keypoint_people import marking_hand

    part = load_part(EXAMPLE_PART)
    return Show(
        name="pose",
        settings="tasks/pose/pose.toml",
        directory=Path("demo/pose"),
        target="demo-pose",
        nights=5,
        world=lambda seed: RobotCell(part=part, seed=seed),
        hand=lambda _task, arrived: marking_hand(arrived, part, _SKILL_PX),
        people={
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


_GRASPS_COUNT = """
optimize = "grasped"
higher_is_better = true
requirement = 0.95
require = ["error_cm.p90 < 1.0", "error_deg.p90 < 10", "latency_ms.p95 < 100"]
ignore = ["flywheel.tasks.pose:picks_per_hour", "error_deg.median", "error_cm.below(0.5)"]
"""
