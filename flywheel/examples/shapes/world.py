"""The demo of the shapes: production in two worlds, and annotators who draw boxes.

In the *long tail* most pictures are as in the start data; the others have shapes of which only the
outline is drawn, or dark ones on light paper. In the world where *everything moved* both become more
common every night.
"""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from flywheel.examples.annotators import a_hand
from flywheel.examples.demos import Demo, Production, both_worlds, three_annotators
from flywheel.examples.shapes.task import LABELS, draw_picture
from flywheel.examples.traffic import Arrival
from flywheel.records import Json
from flywheel.scoring import detection

_SKILL_PIXELS = 0.5
"""one sigma of an edge that an annotator draws"""
_LEAST_PIXELS = 2.0
_FORGOTTEN = 0.5
"""share of the mistakes that are a box not drawn; the others are a wrong label"""


class Pictures(Production):
    """The pictures of a whole production."""

    rare: ClassVar = {"hollow": 0.06, "light": 0.05}
    moved: ClassVar = {"hollow": 0.35, "light": 0.35}

    @staticmethod
    def is_right(answer: Json, truth: Json) -> bool:
        """Whether every shape is found, and nothing else."""
        return detection(LABELS)(answer, truth)["correct"] == 1.0

    def _arrival(
        self,
        kind: str,
        moved: float,  # noqa: ARG002  a kind looks the same in every night
        rng: np.random.Generator,
        *,
        is_held: bool,  # noqa: ARG002  see above
    ) -> Arrival:
        picture, found = draw_picture(kind, rng)
        return Arrival(payload=picture, media_type="image/png", metadata={}, truth=found, kind=kind)


def boxes(truth: Json, errs: bool, rng: np.random.Generator) -> Json:
    """Every box nearly right; by mistake one is forgotten or named wrongly."""
    drawn = [_drawn(box, rng) for box in truth]
    if errs:
        wrong = drawn.pop(int(rng.integers(len(drawn))))
        if rng.random() > _FORGOTTEN:
            drawn.append({**wrong, "label": LABELS[wrong["label"] == LABELS[0]]})
    return drawn


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
        worlds=both_worlds(Pictures),
        hand=lambda task, arrived: a_hand(arrived, task.labeling, boxes),
        annotators=three_annotators((0.02, 0.04, 0.07), (12.0, 9.0, 6.0)),
    )
