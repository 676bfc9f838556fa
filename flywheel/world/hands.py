"""What people's hands do: the result that someone submits who knows the truth, or errs about it.

The product never sees the truth. Refuses to know Label Studio's API.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from flywheel.records import Json
from flywheel.task import Labeling
from flywheel.world.annotators import Hand
from flywheel.world.arrival import Arrival

Arrived = Callable[[str], Arrival | None]
"""sample id -> what arrived, with the truth; None, or a truth of None: nobody could tell"""


def choosing_hand(arrived: Arrived, labeling: Labeling, classes: Sequence[Json]) -> Hand:
    """Picks the right class, or by mistake any other one."""

    def draw(sample_id: str, errs: bool, rng: np.random.Generator) -> list[dict[str, Json]] | None:
        arrival = arrived(sample_id)
        if arrival is None or arrival.truth is None:
            return None
        answer = arrival.truth
        if errs:
            others = [name for name in classes if name != answer]
            answer = others[int(rng.integers(len(others)))]
        return labeling.result(answer, arrival.sample)

    return draw
