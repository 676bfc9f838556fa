"""Demos: an example project with a simulated production and simulated annotators.

Each example describes its demo at the end of its `world.py`. It is found by name and imported only
when needed, since an example may need packages of an extra.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Protocol

from flywheel.errors import UserError
from flywheel.examples.annotators import Arrived, Hand
from flywheel.examples.traffic import Arrival
from flywheel.records import Json
from flywheel.task import Task

DEMOS = ("digits", "details", "messages", "pose", "shapes", "tumours")


class World(Protocol):
    """A simulated production, fixed by its seed; it knows the truth."""

    def traffic(self, night: int) -> list[Arrival]:
        """What arrives in a night, the same at every call."""
        ...

    def truth_set(self, night: int, num_samples: int) -> list[Arrival]:
        """Arrivals like a night's that the product never sees."""
        ...

    def is_right(self, answer: Json, truth: Json) -> bool:
        """Whether an answer turns out well in the real world."""
        ...


@dataclass(frozen=True, kw_only=True, slots=True)
class Habits:
    """How a simulated annotator works, see `flywheel.examples.annotators.Person`."""

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
class Demo:
    """One demo."""

    name: str
    settings: str
    """of the project, a file of this package"""
    directory: Path
    """where the demo keeps its state unless another folder is given"""
    target: str
    """of make, which begins it"""
    nights: int
    """how many one call turns"""
    worlds: Mapping[str, Callable[[int], World]]
    """by name, seed -> production; the demo shows the first"""
    hand: Callable[[Task, Arrived], Hand]
    annotators: Mapping[str, Habits]
    """by name, how each works"""
    revisit: Revisit | None = None
    exam_samples: int = 1_000
    """on which the last page measures models; four times as many halve its intervals"""

    def world(self, seed: int, name: str = "") -> World:
        """A production of a seed; without a name, the one that the demo shows.

        Raises:
            UserError: the demo has no world of that name.
        """
        known = list(self.worlds)
        if name and name not in known:
            raise UserError(f"{name!r} is not a world of {self.name}. Write {' or '.join(known)}.")
        return self.worlds[name or known[0]](seed)


def find_demo(name: str) -> Demo:
    """The demo of an example.

    Raises:
        UserError: no example has that name.
    """
    if name not in DEMOS:
        raise UserError(f"{name!r} is not a demo. Write {' or '.join(DEMOS)}.")
    found: Demo = import_module(f"flywheel.examples.{name}.world").demo()
    return found
