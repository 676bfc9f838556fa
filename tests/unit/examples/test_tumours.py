"""The tumours project: rows of a table, an estimator of scikit-learn, and two worlds that it serves."""

import json
import shutil
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

import flywheel
from flywheel.checks import check_task
from flywheel.errors import PayloadError
from flywheel.examples.demos import find_demo
from flywheel.examples.tumours import task as tumours
from flywheel.examples.tumours.task import CLASSES, parts, real_cases
from flywheel.examples.tumours.world import Cases
from flywheel.metrics.names import name_metric
from flywheel.project import load_project
from flywheel.records import Sample, Split
from flywheel.task import load_task


@pytest.fixture(scope="module")
def task():
    return tumours.task()


@pytest.fixture(scope="module")
def start(task):
    return list(task.start_data())


@pytest.fixture(scope="module")
def first_model(task, start):
    """The estimator on the start data."""
    training = [one for one in start if one.split is Split.TRAIN]
    rows = task.model.features([one.sample for one in training])
    return task.model.estimator().fit(rows, [one.answer for one in training])


def right_by_kind(task, model, arrivals):
    answers = model.predict(task.model.features([one.sample for one in arrivals]))
    right = {"all": []}
    for answer, arrival in zip(answers.tolist(), arrivals, strict=True):
        for kind in ("all", arrival.kind):
            right.setdefault(kind, []).append(Cases.is_right(answer, arrival.truth))
    return {kind: np.mean(found) for kind, found in right.items()}


def test_the_task_keeps_every_law(task):
    assert check_task(task, np.random.default_rng(0)) == []


def test_the_bundled_settings_load_and_ask_for_f1_and_recall(task, tmp_path):
    settings = Path(flywheel.__file__).parent / "examples" / "tumours" / "flywheel.toml"
    shutil.copy(settings, tmp_path / "flywheel.toml")
    project = load_project(tmp_path)
    assert load_task(project.project.task, tmp_path).trainer is not None
    metric = name_metric(project.metric, task.scores)
    assert metric.optimize.endswith("predicted.f1(actual, positive=1)")
    assert [text.endswith("recall(actual, positive=1) >= 0.95") for text in metric.require] == [
        True
    ]


def test_no_case_is_for_two_things_and_small_ones_are_malignant():
    cases = [case for part in parts().values() for case in part.tolist()]
    assert sorted(cases) == list(range(569))
    assert set(real_cases().classes[parts()["small"]]) == {"malignant"}


def test_what_is_no_row_is_refused_and_what_lacks_a_field_is_answered(task, first_model):
    with pytest.raises(PayloadError, match="no JSON object"):
        task.model.features([Sample.of(b"[1]", "application/json")])
    poor = Sample.of(b'{"mean radius": "large"}', "application/json")
    assert first_model.predict(task.model.features([poor]))[0] in CLASSES
    assert [belongs(poor) for belongs in task.slices.values()] == [False, True]


def test_a_large_radius_alone_is_right_more_often_than_the_usual_class(task, start):
    answers = np.array([one.answer for one in start])
    found = task.baselines["large radius"].fit([], [])([one.sample for one in start])
    assert np.mean(answers == "benign") < np.mean(np.array(found) == answers) < 0.97


def test_a_night_is_the_same_at_every_call_and_nights_seeds_and_truth_sets_differ():
    world = Cases(seed=1, is_drifting=True)
    assert world.traffic(2) == world.traffic(2)
    other = Cases(seed=2, is_drifting=True).traffic(2)
    payloads = [
        {one.payload for one in some}
        for some in (world.traffic(2), world.traffic(3), other, world.truth_set(2, 400))
    ]
    assert len(set.union(*payloads)) == 1_600


def test_in_the_long_tail_the_first_model_fails_where_the_start_data_have_nothing(
    task, first_model
):
    arrivals = Cases(seed=0, is_drifting=False).truth_set(0, 2_000)
    kinds = Counter(one.kind for one in arrivals)
    assert kinds["usual"] / 2_000 == pytest.approx(0.86, abs=0.02)
    right = right_by_kind(task, first_model, arrivals)
    assert 0.9 < right["all"] < 0.97
    assert right["usual"] > 0.97
    assert right["new device"] < 0.97
    assert right["small"] < 0.7


def test_where_everything_moved_the_first_model_is_wrong_more_often_every_week(task, first_model):
    world = Cases(seed=0, is_drifting=True)
    right = [
        right_by_kind(task, first_model, world.truth_set(night, 1_000))["all"] for night in (0, 12)
    ]
    assert right[1] < right[0] - 0.04 < 0.95


def test_only_the_new_device_is_known_by_its_name():
    arrivals = find_demo("tumours").world(0, "everything-moved").traffic(0)
    devices = {(one.kind, json.loads(one.payload)["device"]) for one in arrivals}
    assert devices == {("usual", "A"), ("small", "A"), ("new device", "B")}
