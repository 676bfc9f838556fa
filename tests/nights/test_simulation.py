"""A simulation turns the real loop; what it concludes follows from its nights."""

import dataclasses
import re

import numpy as np
import pytest

from flywheel.errors import UserError
from flywheel.examples.annotators import choosing_hand
from flywheel.examples.arms import Arm, Turned, arms_picture, paired_interval
from flywheel.examples.demos import Demo, Habits, find_demo
from flywheel.examples.simulation import Setting, _bought, all_at_once, at_random, simulate
from flywheel.examples.story import make_story
from flywheel.examples.traffic import Arrival
from flywheel.ledger.history import reports_of
from flywheel.testing import SIDES, draw_points, open_memory, side_of, toy_task


class Points:
    """The toy task's production."""

    def traffic(self, night):
        return self._arrivals(60, 10 + night)

    def truth_set(self, night, num_samples):
        return self._arrivals(min(num_samples, 200), 900 + night)

    @staticmethod
    def is_right(answer, truth):
        return answer == truth

    @staticmethod
    def _arrivals(number, seed):
        return [
            Arrival(
                payload=sample.payload,
                media_type=sample.media_type,
                metadata={},
                truth=side_of(sample),
                kind=side_of(sample),
            )
            for sample in draw_points(number, seed)[0]
        ]


@pytest.fixture
def toy_demo(tmp_path, monkeypatch) -> Demo:
    settings = tmp_path / "toy.toml"
    settings.write_text(
        '[project]\nname = "toy"\ntask = "flywheel.testing:toy_task"\n'
        '[train]\ndevice = "cpu"\nlearning_rate = 0.1\nbatch_size = 8\n'
        '[metric]\noptimize = "correct"\n'
    )
    digits = find_demo("digits")
    monkeypatch.setattr(Demo, "settings", str(settings))
    return dataclasses.replace(
        digits,
        name="toy",
        worlds={"points": lambda _seed: Points()},
        hand=lambda task, arrived: choosing_hand(arrived, task.labeling, SIDES),
        annotators={"ann": Habits(error_rate=0.0, seconds_per_answer=1.0, leave_rate=0.0)},
    )


@pytest.fixture
def setting(toy_demo, monkeypatch):
    monkeypatch.setattr("flywheel.loop.retrain.ask_elsewhere_once", lambda *_: None)
    return Setting(
        demo=toy_demo,
        world=toy_demo.world(0),
        num_nights=2,
        seed=0,
        changes={"labeling": {"samples_per_night": 8}},
        guesses=False,
    )


def test_nights_of_the_real_loop_follow_each_other(setting):
    nights = list(simulate(setting))
    assert [night.number for night in nights] == [1, 2]
    assert nights[0].num_labels == 0 < nights[1].num_labels <= 16
    assert all(night.worst <= night.trained <= 1 for night in nights)
    assert nights[0].num_train == 24 <= nights[1].num_train <= 32  # the start data and answers
    assert nights[0].measured is None  # no label from production tests yet


def test_beside_it_are_the_plain_recipe_on_random_labels_and_all_labels_at_once(setting):
    nights = list(at_random(setting))
    assert [(night.number, night.num_labels) for night in nights] == [(1, 0), (2, 8)]
    assert [night.num_train for night in nights] == [24, 32]
    assert nights[0].trained != nights[1].trained
    [best] = all_at_once(setting)
    assert nights[0].trained < best.trained <= 1
    assert best.num_labels == 60  # of the one night whose labels are back


def test_the_plain_recipe_pays_the_same_annotators_so_that_a_guesser_costs_it_labels_too(setting):
    people = dict.fromkeys("abc", setting.demo.annotators["ann"])
    demo = dataclasses.replace(setting.demo, annotators=people)
    asks = dataclasses.replace(setting, demo=demo, num_nights=3)
    assert _bought(asks, budget=60, agreement=2) == [0, 30, 60]
    assert 40 < _bought(dataclasses.replace(asks, guesses=True), budget=60, agreement=2)[-1] < 55


def test_a_world_is_found_by_its_name(toy_demo):
    assert isinstance(toy_demo.world(0, "points"), Points)
    with pytest.raises(UserError, match=r"'moon' is not a world of toy\. Write points"):
        toy_demo.world(0, "moon")


def test_the_last_page_compares_with_as_many_labels_drawn_at_random(toy_demo, tmp_path):
    """After one labeled night: the same number of labels, all kinds, and the gain of both."""
    train = {"device": "cpu", "learning_rate": 0.1, "batch_size": 8, "steps": 20}
    with open_memory(toy_task(), tmp_path, train=train) as project:
        project.night()
        for arrivals in (Points().traffic(0), Points().traffic(1)):
            project.serve(arrival.sample for arrival in arrivals)
            project.night()
            project.annotate(side_of)
        with project.loop.ledger.read() as connection:
            reports = reports_of(connection, [1, 2, 3])
        trained = []
        story = make_story(toy_demo, project.loop, reports, lambda done, _all: trained.append(done))
    sheet = story.sheets[0]
    found = re.search(r"Trained on (\d+) labels each", story.lead)
    assert found is not None
    assert 0 < int(found[1]) <= 30  # about half of a night's 50
    assert [row[0] for row in sheet.rows] == ["all", "left", "right"]
    assert int(sheet.rows[0][1]) == sum(int(row[1]) for row in sheet.rows[1:])
    ours, drawn, gain = (float(cell.split()[0]) for cell in sheet.rows[0][3:])
    assert gain == pytest.approx(ours - drawn, abs=0.0011)
    assert {line.name for line in story.lines} >= {"random labels", "all labels at once"}
    assert trained == [0, 1, 2, 3]


def arm(*runs):
    """Each run: the metric of the nights."""
    return Arm.of(
        [
            [
                Turned(number=at, num_labels=10 * at, metric=0.0, trained=value, worst=value / 2)
                for at, value in enumerate(run, start=1)
            ]
            for run in runs
        ]
    )


def test_labels_to_where_another_arm_ends_are_counted_for_each_seed():
    ours = arm((0.6, 0.8, 0.9), (0.5, 0.6, 0.8), (0.4, 0.4, 0.4))
    drawn = arm((0.5, 0.6, 0.7), (0.5, 0.5, 0.7), (0.4, 0.4, 0.5))
    assert ours.share_of_labels(drawn, 1) == pytest.approx([2 / 3, 1.0, np.inf])
    assert arm((5.0, 3.0)).share_of_labels(arm((5.0, 4.0)), -1) == [1.0]
    picture = arms_picture({"ours": ours, "drawn": drawn}, "correct")
    assert picture.startswith(b"\x89PNG")


def test_a_gain_is_paired_by_seed():
    mean, low, high = paired_interval(np.array([0.2, 0.1, -0.1]))
    assert mean == pytest.approx(0.2 / 3)
    assert low < 0 < high
    assert paired_interval(np.array([1.0])) == (1.0, float("-inf"), float("inf"))
