"""The demo of the tumours: production in two worlds made of real cases, and its annotators.

In the *long tail* most cases are as in the start data; the others are measured by a new device, which
reads lengths short, or are malignant and still small, of which the start data have none. In the world
where *everything moved* both become more common every night, and the new device reads ever shorter.
"""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from flywheel.examples.annotators import choosing_hand
from flywheel.examples.demos import Demo, Production, both_worlds, three_annotators
from flywheel.examples.traffic import Arrival
from flywheel.examples.tumours.task import CLASSES, DEVICES, parts, real_cases, write_row

_SHORT, _MOVED_SHORT = 0.75, 0.65
"""of a length: what the new device reads, in the two worlds"""
_POWERS = np.array([1, 0, 1, 2, 0, 0, 0, 0, 0, 0])
"""of a length, in each measure: radius, perimeter and area"""


class Cases(Production):
    """The cases of a whole production.

    Each lies between two real cases of one class, so that there are as many as are asked for; those of a
    truth set between cases that the product never sees or trains on.
    Source: Chawla et al. (2002), SMOTE.
    """

    rare: ClassVar = {"new device": 0.08, "small": 0.06}
    moved: ClassVar = {"new device": 0.5, "small": 0.15}

    def _arrival(
        self, kind: str, moved: float, rng: np.random.Generator, *, is_held: bool
    ) -> Arrival:
        usual, small = ("start held", "small held") if is_held else ("production", "small")
        part = small if kind == "small" else usual
        case = int(rng.choice(parts()[part]))
        measures, _, classes = real_cases()
        like = [
            other for other in parts()[part] if classes[other] == classes[case] and other != case
        ]
        other = int(rng.choice(like))
        measured = measures[case] + rng.uniform(0.1, 0.5) * (measures[other] - measures[case])
        is_new = kind == "new device"
        if is_new:
            measured = measured * (_SHORT + moved * (_MOVED_SHORT - _SHORT)) ** _POWERS
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
        worlds=both_worlds(Cases),
        hand=lambda task, arrived: choosing_hand(arrived, task.labeling, CLASSES),
        annotators=three_annotators((0.01, 0.02, 0.04), (20.0, 15.0, 8.0)),
    )
