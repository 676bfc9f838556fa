"""Trains on what other ways of labeling would have brought, and measures it on an exam.

A random arm gets as many labels a night as the loop trained on, drawn evenly from the same
arrivals; the last arm gets the label of every arrival at once. Both know the truth, so that they
are harder to beat than with real annotators.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

import numpy as np

from flywheel.evaluate.scoring import score_one
from flywheel.evaluate.stats import Measured, estimate
from flywheel.examples.traffic import Arrival
from flywheel.metrics.scores import Statistic
from flywheel.model import Model, pick_device
from flywheel.records import Answer, Array, Estimate, Split
from flywheel.settings.learning import Train
from flywheel.task import Example, Task
from flywheel.train import TrainingData, train

_NO_TIME = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Exam:
    """Arrivals that no arm has trained on, and what is measured on them."""

    task: Task
    arrivals: Sequence[Arrival]
    statistic: Statistic
    device: str = "auto"

    def answers(self, weights: bytes) -> list[Answer]:
        """The answers of a model, in the order of the arrivals."""
        model = Model(self.task, weights, pick_device(self.device))
        return model.answer_samples([arrival.sample for arrival in self.arrivals])

    def grade(self, weights: bytes) -> Estimate | None:
        """The metric of a model with its interval; None where it is not defined."""
        names = [arrival.sample.id for arrival in self.arrivals]
        rows = [
            score_one(self.task, name, answer.value, arrival.truth)
            for name, answer, arrival in zip(
                names, self.answers(weights), self.arrivals, strict=True
            )
        ]
        number = len(rows)
        measured = Measured(
            ids=tuple(f"{index}" for index in range(number)),
            scores={name: np.array([row[name] for row in rows]) for name in rows[0]},
            weights=np.ones(number),
            clusters=_scenes(self.arrivals),
        )
        return estimate(self.statistic, measured, np.random.default_rng(0))


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class School:
    """What every arm trains with: the start data, the settings, and the arrivals of each night."""

    task: Task
    settings: Train
    start: Sequence[Example]
    nights: Sequence[Sequence[Arrival]]
    seed: int
    first: bytes | None = None
    """weights that the arms continue from, as the loop does; None: fresh ones"""

    def at_random(self, num_labels: Sequence[int]) -> Iterator[bytes]:
        """The weights after each night, where as many labels as given are known by then.

        Each night continues from the weights of the night before, as the loop does.

        Args:
            num_labels: known after night 1, 2, ... of the arrivals of those nights; it never falls.
        """
        rng = np.random.default_rng([self.seed, 11])
        known: list[Arrival] = []
        weights = self.first
        for number, (arrivals, wanted) in enumerate(zip(self.nights, num_labels, strict=True)):
            more = min(wanted - len(known), len(arrivals))
            known += [arrivals[i] for i in rng.choice(len(arrivals), more, replace=False)]
            weights = self._train(known, weights, number)
            yield weights

    def everything(self) -> bytes:
        """The weights from the label of every arrival, trained once."""
        arrived = [arrival for night in self.nights for arrival in night]
        return self._train(arrived, self.first, len(self.nights))

    def _train(self, known: Sequence[Arrival], before: bytes | None, number: int) -> bytes:
        begun = [example for example in self.start if example.split is Split.TRAIN]
        data = TrainingData(
            samples=[
                *(example.sample for example in begun),
                *(arrival.sample for arrival in known),
            ],
            answers=[*(example.answer for example in begun), *(arrival.truth for arrival in known)],
            origins=["start"] * len(begun) + ["probability"] * len(known),
            dataset_id="",
            champion=before,
        )
        seed = self.seed + number + 1
        trained = train(
            self.task, self.settings, data, seed=seed, now=_NO_TIME, progress=lambda *_: None
        )
        return trained.weights


def _scenes(arrivals: Sequence[Arrival]) -> Array:
    """(N,) number of the scene of each arrival; one without a scene has a number of its own."""
    names = [
        arrival.metadata.get("scene", f"alone {index}") for index, arrival in enumerate(arrivals)
    ]
    return np.unique([str(name) for name in names], return_inverse=True)[1]
