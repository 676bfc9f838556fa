"""A task small enough to see through: points on a plane, and on which side of a line they lie.

And a real ledger, with what a model server would have written into it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import UTC, datetime

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from flywheel.ledger import Ledger
from flywheel.ledger.feedback import append_feedback, feedback_id
from flywheel.ledger.predictions import Logged, append_predictions
from flywheel.model import weights_of
from flywheel.project import Gate, Metric
from flywheel.records import (
    Answer,
    Decision,
    Feedback,
    Prediction,
    Report,
    Reuse,
    Sample,
    Split,
    Verdict,
)
from flywheel.task import Baseline, Labeling, Task

# Tests run on every core at once; threads that wait for each other's core make them ten times slower.
torch.set_num_threads(1)

_SIDES = ("left", "right")


def _point(x: float, y: float) -> Sample:
    return Sample.of(np.array([x, y], dtype="<f4").tobytes(), "application/octet-stream")


def _coordinates(sample: Sample) -> np.ndarray:
    return np.frombuffer(sample.payload, dtype="<f4").copy()


def _inputs(samples):
    return torch.from_numpy(np.array([_coordinates(sample) for sample in samples]).reshape(-1, 2))


def _answers(output: torch.Tensor) -> list[Answer]:
    confidences, sides = functional.softmax(output, dim=1).max(dim=1)
    return [
        Answer(value=_SIDES[side], confidence=float(confidence), embedding=row.numpy())
        for side, confidence, row in zip(sides.tolist(), confidences, output, strict=True)
    ]


def _scores(answer, label):
    right = answer == label
    return {"correct": float(right), "error_cm": 0.0 if right else 2.5}


def _majority(_, answers):
    most = Counter(answers).most_common(1)[0][0]
    return lambda samples: [most] * len(samples)


def _nearest(samples, answers):
    known = np.array([_coordinates(sample) for sample in samples])

    def predict(asked):
        points = np.array([_coordinates(sample) for sample in asked])
        gaps = ((points[:, None] - known[None]) ** 2).sum(axis=2)
        return [answers[index] for index in gaps.argmin(axis=1)]

    return predict


def _build() -> Task:
    return Task(
        model=lambda: nn.Sequential(nn.Linear(2, 2), nn.Dropout(0.0)),
        inputs=_inputs,
        targets=lambda answers: torch.tensor([_SIDES.index(answer) for answer in answers]),
        loss=lambda output, target: functional.cross_entropy(output, target, reduction="none"),
        answers=_answers,
        scores=_scores,
        labeling=Labeling(config="", picture=bytes, result=list, answer=str),
        baselines={
            "majority": Baseline(kind="scripted", fit=_majority),
            "nearest": Baseline(kind="simple ML", fit=_nearest),
        },
        slices={"upper": lambda sample: bool(_coordinates(sample)[1] > 0)},
    )


@pytest.fixture(scope="session")
def points_task() -> Task:
    return _build()


@pytest.fixture(scope="session")
def draw_points() -> Callable[[int, int], tuple[list[Sample], list[str]]]:
    """(number, seed) -> samples and the side that each lies on: right when x > 0."""

    def draw(number: int, seed: int) -> tuple[list[Sample], list[str]]:
        points = np.random.default_rng(seed).normal(size=(number, 2)).astype("<f4")
        return [_point(x, y) for x, y in points], [_SIDES[int(x > 0)] for x, _ in points]

    return draw


@pytest.fixture(scope="session")
def line_weights() -> Callable[[float, float], bytes]:
    """(a, b) -> weights of the network that answers right where a x + b y > 0."""

    def weights(a: float, b: float) -> bytes:
        module = _build().model()
        with torch.no_grad():
            module[0].weight.copy_(torch.tensor([[-a, -b], [a, b]]))
            module[0].bias.zero_()
        return weights_of(module)

    return weights


class Production:
    """What a model server writes, straight into a ledger."""

    def __init__(self, ledger: Ledger) -> None:
        self.ledger = ledger
        self.now = datetime(2026, 1, 1, tzinfo=UTC)
        self._count = 0

    def predict(self, *confidences, split=Split.TRAIN, sample=None, embedding=None, group=None):
        """One prediction for each confidence, of new samples unless one is given."""
        logged = [self._logged(value, split, sample, embedding, group) for value in confidences]
        with self.ledger.begin() as connection:
            append_predictions(connection, logged)
        return [entry.prediction for entry in logged]

    def say(self, prediction, kind, value):
        """Feedback on a prediction."""
        entry = Feedback(
            id=feedback_id(prediction.id, kind, value),
            prediction_id=prediction.id,
            kind=kind,
            value=value,
            created_at=self.now,
        )
        with self.ledger.begin() as connection:
            append_feedback(connection, [entry])

    def _logged(self, confidence, split, sample, embedding, group):
        number, self._count = self._count, self._count + 1
        sample = sample or Sample.of(f"payload {number}".encode(), "text/plain")
        place = np.random.default_rng(number).normal(size=2) if embedding is None else embedding
        prediction = Prediction(
            id=f"p{number}",
            sample_id=sample.id,
            answer="cat",
            confidence=confidence,
            embedding=np.asarray(place, dtype=np.float32),
            latency_ms=1.0,
            model_digest="d" * 64,
            created_at=self.now,
        )
        return Logged(sample=sample, group=group or sample.id, split=split, prediction=prediction)


@pytest.fixture
def ledger(tmp_path) -> Iterator[Ledger]:
    with closing(Ledger.open(f"sqlite:///{tmp_path}/ledger.db")) as opened:
        yield opened


@pytest.fixture
def production(ledger) -> Production:
    return Production(ledger)


@pytest.fixture
def blank_report():
    """(**changes) -> a report in which nothing was measured."""

    def build(**changes):
        fields = {
            "id": "r" * 64,
            "night": 3,
            "metric": "correct",
            "higher_is_better": True,
            "metric_id": "m",
            "metric_settings": Metric().model_dump(mode="json"),
            "candidate_digest": "a" * 64,
            "champion_digest": "b" * 64,
            "dataset_id": "d" * 64,
            "test_set_digest": "t" * 64,
            "no_challenge": "",
            "scores_digest": "s" * 64,
            "reuse": Reuse(
                num_test=0, num_sealed=0, mean_uses=0.0, num_challenges=0, most_challenges=10
            ),
            "seed": 0,
            "created_at": datetime(2030, 1, 1, tzinfo=UTC),
        }
        tables = ("entries", "start_entries", "parts", "slices", "watched")
        absent = ("challenge", "difference", "fresh", "guarded", "production", "abstention")
        fields |= dict.fromkeys(tables, ()) | dict.fromkeys((*absent, "latency_p95_ms"))
        return Report(**(fields | changes))

    return build


@pytest.fixture
def blank_decision():
    """(**changes) -> a decision to hold, on no challenge."""

    def build(**changes):
        fields = {
            "id": "e" * 64,
            "night": 3,
            "report_id": "r" * 64,
            "verdict": Verdict.HOLD,
            "reasons": ("first", "second"),
            "e_value": None,
            "needed_e_value": None,
            "closes_challenge": False,
            "gate_settings": Gate().model_dump(mode="json"),
            "created_at": datetime(2030, 1, 1, tzinfo=UTC),
        }
        return Decision(**(fields | changes))

    return build
