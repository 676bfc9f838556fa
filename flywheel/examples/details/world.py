"""The demo of the details: the messages' traffic in two worlds, and annotators who mark spans."""

from __future__ import annotations

import numpy as np

from flywheel.examples.annotators import a_hand
from flywheel.examples.demos import Demo, both_worlds, three_annotators
from flywheel.examples.details.task import LABELS, write_details
from flywheel.examples.messages.world import Messages
from flywheel.examples.traffic import Arrival
from flywheel.records import Json


class Details(Messages):
    """Messages of a whole production with their spans as truth."""

    def _arrival(
        self,
        kind: str,
        moved: float,  # noqa: ARG002  a kind reads the same in every night
        rng: np.random.Generator,
        *,
        is_held: bool,  # noqa: ARG002  no message is written twice
    ) -> Arrival:
        said, found = write_details(kind, rng)
        return Arrival(
            payload=said.encode(),
            media_type="text/plain",
            metadata={"channel": "chat" if kind == "chat" else "mail"},
            truth=found,
            kind=kind,
        )


def _marked(truth: Json, errs: bool, rng: np.random.Generator) -> Json:
    """Every span; by mistake one is named wrongly, or one is marked that there is not."""
    marked = [dict(span) for span in truth]
    if errs and marked:
        wrong = marked[int(rng.integers(len(marked)))]
        others = [label for label in LABELS if label != wrong["label"]]
        wrong["label"] = others[int(rng.integers(len(others)))]
    elif errs:
        marked = [{"start": 0, "end": 2, "label": LABELS[0]}]
    return marked


def demo() -> Demo:
    """The demo of the details project."""
    return Demo(
        name="details",
        worlds=both_worlds(Details),
        hand=lambda task, arrived: a_hand(arrived, task.labeling, _marked),
        annotators=three_annotators((0.02, 0.04, 0.07), (10.0, 8.0, 5.0)),
    )
