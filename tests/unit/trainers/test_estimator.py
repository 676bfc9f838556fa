"""scikit-learn: fitted, stored without pickle, loaded again, and turned through two nights."""

import sys
from datetime import UTC, datetime

import numpy as np
import pytest
import torch
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler
from sklearn.svm import LinearSVC

from flywheel.checks import check_task
from flywheel.errors import FlywheelError, PayloadError, SettingsError, TaskError
from flywheel.model import Model
from flywheel.records import FAILED, Sample
from flywheel.settings.learning import Train
from flywheel.testing import draw_points, open_memory, side_of
from flywheel.train import TrainingData, train
from flywheel.trainers import SklearnTrainer
from flywheel.trainers.estimator import text_of

from .conftest import numbers_of


def halved(numbers):
    return numbers / 2


def points_trainer(**changes):
    fields = {"estimator": lambda: make_pipeline(StandardScaler(), LogisticRegression())}
    return SklearnTrainer(**(fields | {"features": numbers_of} | changes))


def fitted(task, number=60, seed=0, **changes):
    samples, answers = draw_points(number, 1)
    fields = {
        "samples": samples,
        "answers": answers,
        "origins": ["start"] * number,
        "dataset_id": "d",
    }
    return train(
        task,
        Train(device="cpu"),
        TrainingData(**(fields | changes)),
        seed=seed,
        now=datetime(2030, 1, 1, tzinfo=UTC),
        progress=lambda *_: None,
    )


def test_what_was_fitted_answers_the_same_after_it_was_stored(own_task):
    task = own_task(points_trainer())
    trained = fitted(task)
    model = Model(task, trained.weights, torch.device("cpu"))
    samples, sides = draw_points(200, 2)
    answers = model.answer_samples(samples)
    assert np.mean([one.value == side for one, side in zip(answers, sides, strict=True)]) > 0.95
    assert all(0.5 <= one.confidence <= 1 for one in answers)
    assert {one.embedding.shape for one in answers} == {(2,)}
    again = Model(task, fitted(task).weights, torch.device("cpu"))
    same = again.answer_samples(samples)  # the same rows and seed give the same model
    assert [one.confidence for one in same] == [one.confidence for one in answers]


def test_a_text_classifier_needs_no_features_and_has_embeddings_of_64_numbers(own_task):
    words = {"left": "port larboard", "right": "starboard"}
    samples = [
        Sample.of(f"{words[side]} {n} é".encode(), "text/plain")
        for n, side in enumerate(["left", "right"] * 200)
    ]
    trainer = SklearnTrainer(
        estimator=lambda: make_pipeline(TfidfVectorizer(), LogisticRegression())
    )
    task = own_task(trainer)
    trained = fitted(
        task, samples=samples, answers=["left", "right"] * 200, origins=["start"] * 400
    )
    model = Model(task, trained.weights, torch.device("cpu"))
    [answer] = model.answer_samples([Sample.of("\ufeffstarboard".encode(), "text/plain")])
    assert (answer.value, answer.embedding.shape) == ("right", (64,))
    for payload in (b"", b"  ", b"\xff", b"a\0b"):
        with pytest.raises(PayloadError, match="Send"):
            model.answer_samples([Sample.of(payload, "text/plain")])


def test_weights_reach_the_last_step_and_refuted_answers_do_not_train(own_task):
    """A sensor that lies and weighs little changes little; a failed outcome is no label."""
    task = own_task(points_trainer())
    samples, answers = draw_points(60, 1)
    wrong = [{"left": "right", "right": "left"}[answer] for answer in answers]
    lies = fitted(
        task,
        samples=[*samples, *draw_points(60, 3)[0]],
        answers=[*answers, *[{"left": "right", "right": "left"}[a] for a in draw_points(60, 3)[1]]],
        origins=["start"] * 60 + ["sensor"] * 60,
        weights=[1.0] * 60 + [0.01] * 60,
    )
    model = Model(task, lies.weights, torch.device("cpu"))
    test, sides = draw_points(200, 2)
    got = [one.value for one in model.answer_samples(test)]
    assert np.mean([a == b for a, b in zip(got, sides, strict=True)]) > 0.95
    both = fitted(
        task, samples=samples * 2, answers=answers + wrong, origins=["start"] * 60 + [FAILED] * 60
    )
    assert both.checkpoint.recipe == fitted(task).checkpoint.recipe


def test_a_regressor_answers_with_numbers(own_task):
    task = own_task(
        points_trainer(estimator=LinearRegression), scores=lambda a, b: {"off": abs(a - b)}
    )
    samples, _ = draw_points(60, 1)
    heights = [float(numbers_of([one])[0, 1]) for one in samples]
    trained = fitted(task, samples=samples, answers=heights)
    [answer] = Model(task, trained.weights, torch.device("cpu")).answer_samples(samples[:1])
    assert answer.value == pytest.approx(heights[0], abs=1e-6)


@pytest.mark.parametrize(
    ("estimator", "what"),
    [
        (LinearSVC, "gives no probabilities"),
        (
            lambda: make_pipeline(FunctionTransformer(halved), LogisticRegression()),
            "could run any code",
        ),
    ],
)
def test_what_cannot_serve_is_said_before_it_is_stored(own_task, estimator, what):
    task = own_task(points_trainer(estimator=estimator))
    with pytest.raises(FlywheelError, match=what):
        Model(task, fitted(task, asked=draw_points(3, 1)[0]).weights, torch.device("cpu"))


def test_without_skops_the_extra_is_named(own_task, monkeypatch):
    monkeypatch.setitem(sys.modules, "skops", None)
    with pytest.raises(SettingsError, match=r"flywheel\[sklearn\]"):
        fitted(own_task(points_trainer()))


def test_the_task_keeps_every_law(own_task):
    assert check_task(own_task(points_trainer()), np.random.default_rng(0)) == []


@pytest.mark.parametrize(
    ("features", "law"),
    [
        (
            lambda samples: numbers_of(samples) - numbers_of(samples).mean(axis=0),
            "others in its batch",
        ),
        (lambda samples: np.zeros((len(samples), 2)), "corrupt payload"),
    ],
)
def test_a_broken_law_is_named(own_task, features, law):
    broken = check_task(own_task(points_trainer(features=features)), np.random.default_rng(0))
    assert any(law in one.law for one in broken), broken


def test_three_nights_train_on_what_annotators_say(own_task, tmp_path):
    task = own_task(points_trainer())
    with open_memory(
        task, tmp_path, labeling={"samples_per_night": 40}, metric={"optimize": "correct"}
    ) as project:
        assert project.night()["decide"].verdict == "PROMOTE"
        for night in range(2):
            project.serve(draw_points(100, 10 + night)[0])
            project.night()
            assert project.annotate(side_of) > 0
            project.serve(draw_points(100, 20 + night)[0])
        done = project.night()
        assert "SklearnTrainer on" in done["retrain"].note
        assert "targeted" in done["retrain"].note
        assert done["evaluate"] is not None


def test_text_of_reads_what_vectorizers_take():
    assert text_of([Sample.of(" שלום 😀 ".encode(), "text/plain")]) == ["שלום 😀"]


def test_a_network_beside_a_trainer_is_one_too_many(own_task):
    with pytest.raises(TaskError, match="inputs would never be called"):
        own_task(points_trainer(), inputs=lambda samples: samples)
