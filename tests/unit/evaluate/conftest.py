from __future__ import annotations

from datetime import UTC, datetime

import numpy as np
import pytest
import torch

from flywheel.evaluate import Contest, EvaluationData, Rows, evaluate
from flywheel.evaluate.stats import Scored
from flywheel.model import Model
from flywheel.project import Metric


@pytest.fixture
def rng():
    return np.random.default_rng(0)


@pytest.fixture
def scored():
    """(values, weights=1) -> scores of samples s0, s1, ..."""

    def build(values, weights=None):
        values = np.asarray(values, dtype=float)
        ids = tuple(f"s{index}" for index in range(len(values)))
        weights = np.ones(len(values)) if weights is None else np.asarray(weights, dtype=float)
        return Scored(ids=ids, values=values, weights=weights)

    return build


@pytest.fixture
def rows(draw_points):
    """(number, seed, weights=None) -> labeled points."""

    def build(number, seed, weights=None):
        samples, answers = draw_points(number, seed)
        return Rows(samples=samples, answers=answers, weights=weights)

    return build


@pytest.fixture
def line_model(points_task, line_weights):
    """(a, b) -> the model that answers right where a x + b y > 0; (1, 0) makes no error."""
    cpu = torch.device("cpu")
    return lambda a, b: Model(points_task, line_weights(a, b), cpu)


@pytest.fixture
def measure(points_task, rows, line_model):
    """Evaluate a faultless candidate against a champion that errs, with what is to differ."""

    def run(*, task=points_task, metric=None, alpha=0.05, seed=0, **changes):
        data = {
            "test": rows(120, 2, np.linspace(1, 4, 120)),
            "start_test": rows(60, 3),
            "train": rows(50, 4),
            "annotations": (),
            "dataset_id": "d",
            "test_set_digest": "t",
        }
        contest = {"candidate": line_model(1, 0), "champion": line_model(1, 1)}
        for name, value in changes.items():
            (contest if name in contest else data)[name] = value
        return evaluate(
            task,
            metric or Metric(),
            EvaluationData(**data),
            Contest(**contest, night=7, alpha=alpha),
            rng=np.random.default_rng(seed),
            now=datetime(2030, 1, 1, tzinfo=UTC),
        )

    return run
