"""The demo of the shapes: production in two worlds, and annotators who draw boxes.

In the *long tail* most pictures are as in the start data; the others have shapes of which only the
outline is drawn, or dark ones on light paper. In the world where *everything moved* both become more
common every night.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from flywheel.examples.annotators import Arrived, Hand
from flywheel.examples.demos import Demo, Habits
from flywheel.examples.shapes.task import LABELS, draw_picture
from flywheel.examples.traffic import Arrival, moved_by, shares_of_kinds
from flywheel.records import Json
from flywheel.scoring import detection
from flywheel.task import Labeling

_RARE = {"hollow": 0.06, "light": 0.05}
_MOVED = {"hollow": 0.35, "light": 0.35}
"""share of each kind in the long tail, and after very many nights where everything moved"""
_SKILL_PIXELS = 0.5
"""one sigma of an edge that an annotator draws"""
_LEAST_PIXELS = 2.0
_FORGOTTEN = 0.5
"""share of the mistakes that are a box not drawn; the others are a wrong label"""


@dataclass(frozen=True, kw_only=True)
class Pictures:
    """The pictures of a whole production, fixed by its seed."""

    seed: int
    is_drifting: bool
    """everything moves; else the long tail"""
    arrivals_per_night: int = 400

    def traffic(self, night: int) -> list[Arrival]:
        """The arrivals of a night, the same ones at every call."""
        return self._arrivals(night, self.arrivals_per_night, 0)

    def truth_set(self, night: int, num_samples: int) -> list[Arrival]:
        """Arrivals like a night's that the product never sees."""
        return self._arrivals(night, num_samples, 1)

    @staticmethod
    def is_right(answer: Json, truth: Json) -> bool:
        """Whether every shape is found, and nothing else."""
        return detection(LABELS)(answer, truth)["correct"] == 1.0

    def _arrivals(self, night: int, number: int, stream: int) -> list[Arrival]:
        rng = np.random.default_rng([self.seed, night, stream])
        moved = moved_by(night) if self.is_drifting else 0.0
        kinds = shares_of_kinds(_RARE, _MOVED, moved)
        chosen = rng.choice(list(kinds), number, p=list(kinds.values())).tolist()
        return [self._arrival(kind, rng) for kind in chosen]

    @staticmethod
    def _arrival(kind: str, rng: np.random.Generator) -> Arrival:
        picture, found = draw_picture(kind, rng)
        return Arrival(payload=picture, media_type="image/png", metadata={}, truth=found, kind=kind)


def boxing_hand(arrived: Arrived, labeling: Labeling) -> Hand:
    """A hand that draws every box nearly right, or by mistake forgets one or names it wrongly."""

    def draw(sample_id: str, errs: bool, rng: np.random.Generator) -> list[dict[str, Json]] | None:
        arrival = arrived(sample_id)
        if arrival is None:
            return None
        drawn = [_drawn(box, rng) for box in arrival.truth]
        if errs:
            wrong = drawn.pop(int(rng.integers(len(drawn))))
            if rng.random() > _FORGOTTEN:
                drawn.append({**wrong, "label": LABELS[wrong["label"] == LABELS[0]]})
        return labeling.result(drawn, arrival.sample)

    return draw


def _drawn(box: dict[str, Json], rng: np.random.Generator) -> dict[str, Json]:
    x, y, width, height = (
        float(box[name]) + rng.normal(0.0, _SKILL_PIXELS) for name in ("x", "y", "width", "height")
    )
    sides = {"width": max(width, _LEAST_PIXELS), "height": max(height, _LEAST_PIXELS)}
    return {"label": box["label"], "x": max(x, 0.0), "y": max(y, 0.0), **sides}


def demo() -> Demo:
    """The demo of the shapes project."""
    return Demo(
        name="shapes",
        settings="examples/shapes/flywheel.toml",
        directory=Path("demo/shapes"),
        target="demo-shapes",
        nights=3,
        worlds={
            "long-tail": lambda seed: Pictures(seed=seed, is_drifting=False),
            "everything-moved": lambda seed: Pictures(seed=seed, is_drifting=True),
        },
        hand=lambda task, arrived: boxing_hand(arrived, task.labeling),
        annotators={
            "ada": Habits(error_rate=0.02, seconds_per_answer=12.0, leave_rate=0.2),
            "ben": Habits(error_rate=0.04, seconds_per_answer=9.0, leave_rate=0.1),
            "cleo": Habits(error_rate=0.07, seconds_per_answer=6.0, leave_rate=0.05),
        },
    )
