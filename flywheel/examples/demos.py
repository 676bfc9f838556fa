"""Demos: an example project with a simulated production and simulated annotators.

Each example describes its demo at the end of its `world.py`. It is found by name and imported only
when needed, since an example may need packages of an extra.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import ClassVar, Protocol

import numpy as np

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


@dataclass(frozen=True, kw_only=True)
class Production(ABC):
    """A whole production, fixed by its seed: the usual kind of arrival, and others that are rare."""

    rare: ClassVar[Mapping[str, float]]
    """share of each other kind in the long tail"""
    moved: ClassVar[Mapping[str, float]]
    """the same after very many nights where everything moved"""
    seed: int
    is_drifting: bool
    """everything moves; else the long tail"""
    arrivals_per_night: int = 400

    def traffic(self, night: int) -> list[Arrival]:
        """The arrivals of a night, the same ones at every call."""
        return self._arrivals(night, self.arrivals_per_night, is_held=False)

    def truth_set(self, night: int, num_samples: int) -> list[Arrival]:
        """Arrivals like a night's that the product never sees."""
        return self._arrivals(night, num_samples, is_held=True)

    @staticmethod
    def is_right(answer: Json, truth: Json) -> bool:
        """Whether an answer turns out well."""
        return bool(answer == truth)

    def _arrivals(self, night: int, number: int, *, is_held: bool) -> list[Arrival]:
        rng = np.random.default_rng([self.seed, night, int(is_held)])
        # 0.4 on the first day, 1 after very many
        moved = 1.0 - 0.6 * math.exp(-night / 6.0) if self.is_drifting else 0.0
        others = {kind: moved * share for kind, share in self.moved.items()} if moved else self.rare
        shares = {"usual": 1.0 - sum(others.values()), **others}
        return [
            self._arrival(kind, moved, rng, is_held=is_held)
            for kind in self._kinds(shares, number, rng)
        ]

    def _kinds(
        self, shares: Mapping[str, float], number: int, rng: np.random.Generator
    ) -> Iterator[str]:
        """The kinds of a night's arrivals; drawn before the first of these is made."""
        yield from rng.choice(list(shares), number, p=list(shares.values())).tolist()

    @abstractmethod
    def _arrival(
        self, kind: str, moved: float, rng: np.random.Generator, *, is_held: bool
    ) -> Arrival:
        """An arrival of a kind where things have moved so far, 0..1."""


def both_worlds(production: type[Production]) -> dict[str, Callable[[int], World]]:
    """The long tail, and where everything moved."""
    return {
        "long-tail": lambda seed: production(seed=seed, is_drifting=False),
        "everything-moved": lambda seed: production(seed=seed, is_drifting=True),
    }


@dataclass(frozen=True, kw_only=True, slots=True)
class Habits:
    """How a simulated annotator works, see `flywheel.examples.annotators.Person`."""

    error_rate: float
    seconds_per_answer: float
    leave_rate: float


def three_annotators(
    error_rates: tuple[float, float, float],
    seconds_per_answer: tuple[float, float, float],
    leave_rates: tuple[float, float, float] = (0.2, 0.1, 0.05),
) -> dict[str, Habits]:
    """By name, the most careful and slowest first."""
    columns = zip(error_rates, seconds_per_answer, leave_rates, strict=True)
    return {
        name: Habits(error_rate=errs, seconds_per_answer=seconds, leave_rate=leaves)
        for name, (errs, seconds, leaves) in zip(("ada", "ben", "cleo"), columns, strict=True)
    }


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
    nights: int = 3
    """how many one call turns"""
    worlds: Mapping[str, Callable[[int], World]]
    """by name, seed -> production; the demo shows the first"""
    hand: Callable[[Task, Arrived], Hand]
    annotators: Mapping[str, Habits]
    """by name, how each works"""
    revisit: Revisit | None = None
    exam_samples: int = 1_000
    """on which the last page measures models; four times as many halve its intervals"""

    @property
    def settings(self) -> str:
        """The project's settings, a file of this package."""
        return f"examples/{self.name}/flywheel.toml"

    @property
    def directory(self) -> Path:
        """Where the demo keeps its state unless another folder is given."""
        return Path("demo", self.name)

    @property
    def target(self) -> str:
        """The target of make that begins it."""
        return "demo" if self.name == DEMOS[0] else f"demo-{self.name}"

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
