"""The demo of the tumours: production in two worlds made of real cases, and its annotators.

In the *long tail* most cases are as in the start data; the others are measured by a new device, which
reads lengths short, or are malignant and still small, of which the start data have none. In the world
where *everything moved* both become more common every night, and the new device reads ever shorter.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from flywheel.examples.annotators import choosing_hand
from flywheel.examples.demos import Demo, Habits
from flywheel.examples.traffic import Arrival, moved_by, shares_of_kinds
from flywheel.examples.tumours.task import CLASSES, DEVICES, parts, real_cases, write_row
from flywheel.records import Json

_RARE = {"new device": 0.08, "small": 0.06}
_MOVED = {"new device": 0.5, "small": 0.15}
"""share of each kind in the long tail, and after very many nights where everything moved"""
_SHORT, _MOVED_SHORT = 0.75, 0.65
"""of a length: what the new device reads, in the two worlds"""
_POWERS = np.array([1, 0, 1, 2, 0, 0, 0, 0, 0, 0])
"""of a length, in each measure: radius, perimeter and area"""


@dataclass(frozen=True, kw_only=True)
class Cases:
    """The cases of a whole production, fixed by its seed.

    Each lies between two real cases of one class, so that there are as many as are asked for.
    Source: Chawla et al. (2002), SMOTE.
    """

    seed: int
    is_drifting: bool
    """everything moves; else the long tail"""
    arrivals_per_night: int = 400

    def traffic(self, night: int) -> list[Arrival]:
        """The arrivals of a night, the same ones at every call."""
        rng = np.random.default_rng([self.seed, night, 0])
        return self._arrivals(night, self.arrivals_per_night, "production", "small", rng)

    def truth_set(self, night: int, num_samples: int) -> list[Arrival]:
        """Arrivals like a night's, between cases that the product never sees or trains on."""
        rng = np.random.default_rng([self.seed, night, 1])
        return self._arrivals(night, num_samples, "start held", "small held", rng)

    @staticmethod
    def is_right(answer: Json, truth: Json) -> bool:
        """Whether the case gets the right treatment."""
        return bool(answer == truth)

    def _arrivals(
        self, night: int, number: int, usual: str, small: str, rng: np.random.Generator
    ) -> list[Arrival]:
        moved = moved_by(night) if self.is_drifting else 0.0
        kinds = shares_of_kinds(_RARE, _MOVED, moved)
        short = _SHORT + moved * (_MOVED_SHORT - _SHORT)
        chosen = rng.choice(list(kinds), number, p=list(kinds.values())).tolist()
        return [
            self._arrival(kind, small if kind == "small" else usual, short, rng) for kind in chosen
        ]

    @staticmethod
    def _arrival(kind: str, part: str, short: float, rng: np.random.Generator) -> Arrival:
        case = int(rng.choice(parts()[part]))
        measures, _, classes = real_cases()
        like = [
            other for other in parts()[part] if classes[other] == classes[case] and other != case
        ]
        other = int(rng.choice(like))
        measured = measures[case] + rng.uniform(0.1, 0.5) * (measures[other] - measures[case])
        is_new = kind == "new device"
        if is_new:
            measured = measured * short**_POWERS
        return Arrival(
            payload=write_row(measured, DEVICES[is_new]),
            media_type="application/json",
            metadata={},
            truth=str(classes[case]),
            kind=kind,
        )


def demo() -> Demo:
    """The demo of the tumours project."""
    return Demo(
        name="tumours",
        settings="examples/tumours/flywheel.toml",
        directory=Path("demo/tumours"),
        target="demo-tumours",
        nights=3,
        worlds={
            "long-tail": lambda seed: Cases(seed=seed, is_drifting=False),
            "everything-moved": lambda seed: Cases(seed=seed, is_drifting=True),
        },
        hand=lambda task, arrived: choosing_hand(arrived, task.labeling, CLASSES),
        annotators={
            "ada": Habits(error_rate=0.01, seconds_per_answer=20.0, leave_rate=0.2),
            "ben": Habits(error_rate=0.02, seconds_per_answer=15.0, leave_rate=0.1),
            "cleo": Habits(error_rate=0.04, seconds_per_answer=8.0, leave_rate=0.05),
        },
    )
