from __future__ import annotations

from datetime import UTC, datetime

import numpy as np
import pytest
import torch

from flywheel.evaluate import Contest, EvaluationData, Rows, Rules, evaluate
from flywheel.model import Model
from flywheel.records import Reuse
from flywheel.settings.judging import Abstain, Metric
from flywheel.settings.labeling import AnnotatorSettings
from flywheel.testing import blank_challenge


@pytest.fixture
def rng():
    return np.random.default_rng(0)


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
def rules(tmp_path):
    """(abstain={}, **metric) -> what is measured."""

    def build(abstain=None, **metric):
        return Rules(
            metric=Metric(**metric), abstain=Abstain(**(abstain or {})), directory=tmp_path
        )

    return build


@pytest.fixture
def challenge():
    """The challenge of the candidate (1, 0) against the champion (1, 1)."""
    return blank_challenge(alpha=0.02, opened_night=7)


@pytest.fixture
def measure(points_task, rows, line_model, rules):
    """Evaluate a faultless candidate against a champion that errs, with what is to differ."""

    def run(*, task=points_task, settings=None, seed=0, **changes):
        no_rows = Rows(samples=[], answers=[])
        data = {
            "test": rows(120, 2, np.linspace(1, 4, 120)),
            "start_test": rows(60, 3),
            "train": rows(50, 4),
            "guarded": no_rows,
            "asked": no_rows,
            "annotations": (),
            "dataset_id": "d",
            "test_set_digest": "t",
        }
        contest = {
            "candidate": line_model(1, 0),
            "champion": line_model(1, 1),
            "challenge": None,
            "no_challenge": "",
            "production": None,
            "published": (),
            "annotators": AnnotatorSettings(),
        }
        for name, value in changes.items():
            (contest if name in contest else data)[name] = value
        reuse = Reuse(
            num_test=120, num_sealed=0, mean_uses=1.0, num_challenges=1, most_challenges=10
        )
        return evaluate(
            task,
            settings or rules(),
            EvaluationData(**data),
            Contest(**contest, night=7, seed=seed, reuse=reuse),
            now=datetime(2030, 1, 1, tzinfo=UTC),
        )

    return run
