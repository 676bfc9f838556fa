from __future__ import annotations

from datetime import UTC, datetime

import pytest
import torch

from flywheel.model import Model
from flywheel.settings.learning import Train
from flywheel.train import TrainingData, train


@pytest.fixture
def training_data(draw_points):
    """(number, **changes) -> training data of points, all of them start data."""

    def build(number=60, **changes):
        samples, answers = draw_points(number, 1)
        fields = {
            "samples": samples,
            "answers": answers,
            "origins": ["start"] * number,
            "dataset_id": "d",
        }
        return TrainingData(**(fields | changes))

    return build


@pytest.fixture
def run_training(points_task, training_data):
    """Train on points; settings as keywords."""

    def run(data=None, *, task=points_task, seed=0, progress=lambda *_: None, **settings):
        return train(
            task,
            Train(**({"steps": 1, "device": "cpu", "learning_rate": 0.05} | settings)),
            data or training_data(),
            seed=seed,
            now=datetime(2030, 1, 1, tzinfo=UTC),
            progress=progress,
        )

    return run


@pytest.fixture
def share_right(points_task, draw_points):
    """Share of fresh points that a trained model gets right."""

    def share(trained):
        samples, answers = draw_points(200, 2)
        model = Model(points_task, trained.weights, torch.device("cpu"))
        said = [answer.value for answer in model.answer_samples(samples)]
        return sum(a == b for a, b in zip(said, answers, strict=True)) / len(answers)

    return share
