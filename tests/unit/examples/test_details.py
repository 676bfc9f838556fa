"""The details project: spans of text, an estimator of scikit-learn, and two worlds that it serves."""

import itertools
import shutil
from pathlib import Path

import numpy as np
import pytest

import flywheel
from flywheel.checks import check_task
from flywheel.examples.demos import find_demo
from flywheel.examples.details import task as details
from flywheel.examples.details.task import LABELS, write_details
from flywheel.project import load_project
from flywheel.records import Sample, Split
from flywheel.task import load_task
from flywheel.trainers import Context, TrainingSet


@pytest.fixture(scope="module")
def task():
    return details.task()


@pytest.fixture(scope="module")
def first_model(task, tmp_path_factory):
    """What answers after training on the start data."""
    rows = [one for one in task.start_data() if one.split is Split.TRAIN]
    folder = tmp_path_factory.mktemp("artifact")
    training = TrainingSet(
        samples=[one.sample for one in rows],
        answers=[one.answer for one in rows],
        weights=[1.0] * len(rows),
        origins=["start"] * len(rows),
        groups=[one.sample.id for one in rows],
    )
    context = Context(folder=folder, champion=None, seed=0, device="cpu", progress=lambda *_: None)
    task.trainer.train(training, context)
    return task.trainer.load(folder, "cpu")


def test_the_task_keeps_every_law(task):
    assert check_task(task, np.random.default_rng(0)) == []


def test_the_bundled_settings_load(tmp_path):
    settings = Path(flywheel.__file__).parent / "examples" / "details" / "flywheel.toml"
    shutil.copy(settings, tmp_path / "flywheel.toml")
    project = load_project(tmp_path)
    assert load_task(project.project.task, tmp_path).trainer is not None
    assert project.metric.optimize == "f1"


@pytest.mark.parametrize("kind", ["usual", "hub", "chat", "phrasing"])
def test_spans_are_whole_words_apart_from_each_other(kind):
    rng, seen = np.random.default_rng(2), set()
    for _ in range(60):
        said, found = write_details(kind, rng)
        for one, other in itertools.pairwise(found):
            assert one["end"] <= other["start"]
        for span in found:
            words = said[span["start"] : span["end"]]
            assert words == words.strip() != ""
            seen.add(span["label"])
    assert seen <= set(LABELS)
    assert len(seen) >= 2


def test_six_digits_are_an_order_or_not_by_what_stands_around_them(first_model):
    said = "Where is my kettle, order 123456? You reach me at 654321."
    [answer] = first_model([Sample.of(said.encode(), "text/plain")])
    marked = {said[one["start"] : one["end"]]: one["label"] for one in answer.value}
    assert marked == {"kettle": "product", "123456": "order"}


def test_the_first_model_is_right_on_nine_of_ten_and_on_few_of_a_new_product(first_model):
    world = find_demo("details").world(0)
    arrivals = [one for night in range(4) for one in world.traffic(night)]
    answers = first_model([one.sample for one in arrivals])
    right = np.array(
        [world.is_right(a.value, one.truth) for a, one in zip(answers, arrivals, strict=True)]
    )
    kinds = np.array([one.kind for one in arrivals])
    assert 0.87 < right.mean() < 0.94
    assert right[kinds == "usual"].mean() > 0.97
    assert right[kinds == "hub"].mean() < 0.3
