"""The demo of the details: the messages' traffic in two worlds, and annotators who mark spans."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from flywheel.examples.annotators import Arrived, Hand
from flywheel.examples.demos import Demo, Habits
from flywheel.examples.details.task import LABELS, write_details
from flywheel.examples.messages.world import Messages
from flywheel.examples.traffic import Arrival
from flywheel.records import Json
from flywheel.task import Labeling


class Details(Messages):
    """Messages of a whole production with their spans as truth, fixed by its seed."""

    @staticmethod
    def _arrival(kinds: Mapping[str, float], _moved: float, rng: np.random.Generator) -> Arrival:
        kind = str(rng.choice(list(kinds), p=list(kinds.values())))
        said, found = write_details(kind, rng)
        return Arrival(
            payload=said.encode(),
            media_type="text/plain",
            metadata={"channel": "chat" if kind == "chat" else "mail"},
            truth=found,
            kind=kind,
        )


def marking_hand(arrived: Arrived, labeling: Labeling) -> Hand:
    """A hand that marks every span, or by mistake names one wrongly or marks one that there is not."""

    def draw(sample_id: str, errs: bool, rng: np.random.Generator) -> list[dict[str, Json]] | None:
        arrival = arrived(sample_id)
        if arrival is None:
            return None
        marked = [dict(span) for span in arrival.truth]
        if errs and marked:
            wrong = marked[int(rng.integers(len(marked)))]
            others = [label for label in LABELS if label != wrong["label"]]
            wrong["label"] = others[int(rng.integers(len(others)))]
        elif errs:
            marked = [{"start": 0, "end": 2, "label": LABELS[0]}]
        return labeling.result(marked, arrival.sample)

    return draw


def demo() -> Demo:
    """The demo of the details project."""
    return Demo(
        name="details",
        settings="examples/details/flywheel.toml",
        directory=Path("demo/details"),
        target="demo-details",
        nights=3,
        worlds={
            "long-tail": lambda seed: Details(seed=seed, is_drifting=False),
            "everything-moved": lambda seed: Details(seed=seed, is_drifting=True),
        },
        hand=lambda task, arrived: marking_hand(arrived, task.labeling),
        annotators={
            "ada": Habits(error_rate=0.02, seconds_per_answer=10.0, leave_rate=0.2),
            "ben": Habits(error_rate=0.04, seconds_per_answer=8.0, leave_rate=0.1),
            "cleo": Habits(error_rate=0.07, seconds_per_answer=5.0, leave_rate=0.05),
        },
    )
