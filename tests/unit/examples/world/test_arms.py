"""The arms beside the loop: as many labels as asked for, and an exam that no arm trained on."""

import dataclasses
from collections import Counter

import numpy as np
import pytest

from flywheel.examples.arms import Exam, School
from flywheel.examples.traffic import Arrival, Reaction
from flywheel.metrics.compiled import compile_formula
from flywheel.records import Split
from flywheel.settings.learning import Sensors, Train
from flywheel.task import Example

SETTINGS = Train(steps=2, batch_size=16, device="cpu", cpu_threads=1)


@pytest.fixture
def arrivals(draw_points):
    """(number, seed) -> arrivals with their truth."""

    def draw(number, seed):
        pairs = zip(*draw_points(number, seed), strict=True)
        return [
            Arrival(payload=s.payload, media_type=s.media_type, metadata={}, truth=side)
            for s, side in pairs
        ]

    return draw


@pytest.fixture
def school(points_task, arrivals):
    """Twenty samples to start with, and two nights of thirty arrivals."""
    start = [Example(sample=a.sample, answer=a.truth, split=Split.TRAIN) for a in arrivals(20, 1)]
    nights = [arrivals(30, 2), arrivals(30, 3)]
    return School(task=points_task, settings=SETTINGS, start=start, nights=nights, seed=0)


@pytest.fixture
def trained(monkeypatch):
    """What each training got: its number of rows, and the weights that it continued from."""
    seen = []

    def note(_task, _settings, data, **_):
        seen.append((len(data.samples), data.champion))
        return type("Trained", (), {"weights": b"w%d" % len(seen)})

    monkeypatch.setattr("flywheel.examples.arms.train", note)
    return seen


def test_the_random_arm_knows_as_many_labels_as_it_is_given(school, trained):
    assert list(school.at_random([12, 30])) == [b"w1", b"w2"]
    assert trained == [(20 + 12, None), (20 + 30, b"w1")]


def test_all_labels_at_once_are_those_of_every_arrival(school, trained):
    assert school.everything() == b"w1"
    assert trained == [(20 + 60, None)]


def test_arms_continue_from_the_first_model(school, trained):
    school = dataclasses.replace(school, first=b"w0")
    list(school.at_random([12, 30]))
    school.everything()
    assert [champion for _, champion in trained] == [b"w0", b"w1", b"w0"]


def test_the_random_arm_is_the_same_every_time(school):
    assert list(school.at_random([10, 20])) == list(school.at_random([10, 20]))


def test_an_exam_grades_by_the_metric(points_task, arrivals, line_weights):
    exam = Exam(
        task=points_task,
        arrivals=arrivals(200, 4),
        statistic=compile_formula("correct", None),
        device="cpu",
    )
    assert exam.grade(line_weights(1, 0)).value == 1.0
    found = exam.grade(line_weights(1, 1))
    expected = np.mean(
        [
            a.value == b.truth
            for a, b in zip(exam.answers(line_weights(1, 1)), exam.arrivals, strict=True)
        ]
    )
    assert found.value == pytest.approx(expected)
    assert found.low < found.value < found.high


def test_pictures_of_one_scene_are_one_cluster(points_task, arrivals, line_weights):
    alone = arrivals(60, 5)
    together = [
        Arrival(
            payload=a.payload, media_type=a.media_type, metadata={"scene": i // 6}, truth=a.truth
        )
        for i, a in enumerate(alone)
    ]
    widths = []
    for drawn in (alone, together):
        exam = Exam(
            task=points_task,
            arrivals=drawn,
            statistic=compile_formula("correct", None),
            device="cpu",
        )
        found = exam.grade(line_weights(1, 1))
        widths.append(found.high - found.low)
    assert widths[1] > widths[0]


def test_the_random_arm_learns_from_outcomes_that_its_labels_bear_out(
    school, arrivals, line_weights, monkeypatch
):
    reports = Reaction(gives_outcome=True, misjudges=False, corrects=False)
    night = [dataclasses.replace(one, reaction=reports) for one in arrivals(30, 2)]
    first = dataclasses.replace(
        school, first=line_weights(1, 0), nights=[night], sensors=Sensors(outcomes=1_000)
    )
    seen = []

    def note(_task, _settings, data, **_):
        seen.append(Counter(data.origins))
        return type("Trained", (), {"weights": b""})

    monkeypatch.setattr("flywheel.examples.arms.train", note)
    list(first.at_random([10]))
    list(dataclasses.replace(first, is_right=lambda *_: False).at_random([10]))
    assert seen[0] == {"start": 20, "probability": 10, "worked": 20}
    assert seen[1] == {"start": 20, "probability": 10}  # all are right, whatever callers say
