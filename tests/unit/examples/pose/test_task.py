"""The pose task keeps the contract, its settings fit it, and any other part makes a task too."""

import shutil
from pathlib import Path

import numpy as np
import pytest

import flywheel
from flywheel.checks import check_task, subject
from flywheel.examples.pose import pose_task
from flywheel.examples.pose.part import EXAMPLE_PART
from flywheel.examples.pose.posing import encode
from flywheel.metrics.compiled import compile_condition, compile_formula
from flywheel.project import load_project
from flywheel.records import Sample, Split
from flywheel.task import load_task


@pytest.fixture(scope="module")
def task():
    return pose_task(EXAMPLE_PART, num_train=3, num_test=1)


@pytest.fixture(scope="module")
def examples(task):
    return list(task.start_data())


@pytest.fixture
def project(tmp_path):
    settings = Path(flywheel.__file__).parent / "examples" / "pose" / "flywheel.toml"
    shutil.copy(settings, tmp_path / "flywheel.toml")
    return load_project(tmp_path)


def test_the_task_keeps_every_law(task, monkeypatch):
    monkeypatch.setattr(subject, "STEPS", 150)  # half as many: four pictures need no more
    assert check_task(task, np.random.default_rng(0)) == []


def test_the_bundled_settings_name_this_task_and_scores_that_it_has(project, task, examples):
    named = load_task(project.project.task, project.directory)
    scores = named.scores(examples[0].answer, examples[0].answer)
    formulas = [project.metric.optimize, *project.metric.ignore]
    statistics = [compile_formula(text, project.directory) for text in formulas]
    statistics += [
        compile_condition(c, project.directory).statistic for c in project.metric.require
    ]
    known = {*scores, "latency_ms", "confidence"}
    assert all(one.columns is None or set(one.columns) <= known for one in statistics)
    assert project.abstain.failure.split()[0] in scores
    assert project.dataset.group in examples[0].sample.metadata


def test_the_start_data_is_as_long_as_asked_for(examples):
    assert [e.split for e in examples] == [Split.TRAIN] * 3 + [Split.TEST]


@pytest.mark.parametrize(
    ("name", "metadata", "level", "expected"),
    [
        ("cell north", {"cell": "north"}, 90, True),
        ("cell north", {"cell": "south"}, 90, False),
        ("by night", {"lamp": "night"}, 90, True),
        ("by night", {}, 90, False),
        ("dark", {}, 20, True),
        ("dark", {}, 90, False),
    ],
)
def test_slices_see_what_they_are_named_for(task, name, metadata, level, expected):
    payload = encode(np.full((64, 64, 3), level, np.uint8))
    assert task.slices[name](Sample.of(payload, "image/png", metadata)) is expected
