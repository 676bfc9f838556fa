"""The demo of the messages: production traffic in two worlds, and its annotators.

In the *long tail* most customers write as in the start data; what fails is rare and structured: a new
product with words of its own, a new way to say one thing, a chat that mixes languages. In the
world where *everything moved* these become more common every night, as typos and one wish do.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import ClassVar

import numpy as np

from flywheel.examples.annotators import choosing_hand
from flywheel.examples.demos import Demo, Production, both_worlds, three_annotators
from flywheel.examples.messages.task import INTENTS, phrases, write_message
from flywheel.examples.traffic import Arrival

_COMMON_INTENT = "delivery"
_NUM_CUSTOMERS = 2_000
_TYPOS = {"usual": 0.005, "hub": 0.005, "phrasing": 0.005, "chat": 0.08}


class Messages(Production):
    """The messages of a whole production."""

    rare: ClassVar = {"hub": 0.06, "chat": 0.03, "phrasing": 0.02}
    moved: ClassVar = {"hub": 0.35, "chat": 0.35, "phrasing": 0.1}

    def _kinds(
        self, shares: Mapping[str, float], number: int, rng: np.random.Generator
    ) -> Iterator[str]:
        """One by one, each before its message is written."""
        for _ in range(number):
            yield str(rng.choice(list(shares), p=list(shares.values())))

    def _arrival(
        self,
        kind: str,
        moved: float,
        rng: np.random.Generator,
        *,
        is_held: bool,  # noqa: ARG002  no message is written twice
    ) -> Arrival:
        known = [intent for intent in INTENTS if intent in phrases()[kind]]
        shares = np.array([1.0 + 2.0 * moved * (intent == _COMMON_INTENT) for intent in known])
        intent = str(rng.choice(known, p=shares / shares.sum()))
        text = write_message(kind, intent, rng, typos=_TYPOS[kind] + 0.04 * moved)
        return Arrival(
            payload=text.encode(),
            media_type="text/plain",
            metadata={
                "customer": f"{rng.integers(_NUM_CUSTOMERS)}",
                "channel": "chat" if kind == "chat" else "mail",
            },
            truth=intent,
            kind=kind,
        )


def demo() -> Demo:
    """The demo of the messages project."""
    return Demo(
        name="messages",
        worlds=both_worlds(Messages),
        hand=lambda task, arrived: choosing_hand(arrived, task.labeling, INTENTS),
        annotators=three_annotators((0.02, 0.04, 0.07), (6.0, 5.0, 3.0)),
    )
