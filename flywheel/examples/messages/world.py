"""The demo of the messages: production traffic in two worlds, and its annotators.

In the *long tail* most customers write as in the start data; what fails is rare and structured: a new
product with words of its own, a new way to say one thing, a chat that mixes languages. In the
world where *everything moved* these become more common every night, as typos and one wish do.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from flywheel.examples.annotators import choosing_hand
from flywheel.examples.demos import Demo, Habits
from flywheel.examples.messages.task import INTENTS, phrases, write_message
from flywheel.examples.traffic import Arrival, moved_by, shares_of_kinds
from flywheel.records import Json

_COMMON_INTENT = "delivery"
_NUM_CUSTOMERS = 2_000
_RARE = {"hub": 0.06, "chat": 0.03, "phrasing": 0.02}
_MOVED = {"hub": 0.35, "chat": 0.35, "phrasing": 0.1}
"""share of each kind in the long tail, and after very many nights where everything moved"""
_TYPOS = {"usual": 0.005, "hub": 0.005, "phrasing": 0.005, "chat": 0.08}


@dataclass(frozen=True, kw_only=True)
class Messages:
    """The messages of a whole production, fixed by its seed."""

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
        """Whether the message reaches those who can help."""
        return bool(answer == truth)

    def _arrivals(self, night: int, number: int, stream: int) -> list[Arrival]:
        rng = np.random.default_rng([self.seed, night, stream])
        moved = moved_by(night) if self.is_drifting else 0.0
        kinds = shares_of_kinds(_RARE, _MOVED, moved)
        return [self._arrival(kinds, moved, rng) for _ in range(number)]

    @staticmethod
    def _arrival(kinds: Mapping[str, float], moved: float, rng: np.random.Generator) -> Arrival:
        kind = str(rng.choice(list(kinds), p=list(kinds.values())))
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
        settings="examples/messages/flywheel.toml",
        directory=Path("demo/messages"),
        target="demo-messages",
        nights=3,
        worlds={
            "long-tail": lambda seed: Messages(seed=seed, is_drifting=False),
            "everything-moved": lambda seed: Messages(seed=seed, is_drifting=True),
        },
        hand=lambda task, arrived: choosing_hand(arrived, task.labeling, INTENTS),
        annotators={
            "ada": Habits(error_rate=0.02, seconds_per_answer=6.0, leave_rate=0.2),
            "ben": Habits(error_rate=0.04, seconds_per_answer=5.0, leave_rate=0.1),
            "cleo": Habits(error_rate=0.07, seconds_per_answer=3.0, leave_rate=0.05),
        },
    )
