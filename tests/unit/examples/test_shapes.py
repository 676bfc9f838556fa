"""The shapes project: boxes in pictures, two worlds that it serves, and annotators who draw."""

import shutil
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

import flywheel
from flywheel.checks import check_task, subject
from flywheel.examples.annotators import a_hand
from flywheel.examples.demos import find_demo
from flywheel.examples.shapes import task as shapes
from flywheel.examples.shapes.task import LABELS, draw_picture
from flywheel.examples.shapes.world import Pictures, boxes
from flywheel.examples.traffic import Arrival
from flywheel.metrics.names import name_metric
from flywheel.pictures import open_picture
from flywheel.project import load_project
from flywheel.records import Sample
from flywheel.task import load_task


@pytest.fixture(scope="module")
def task():
    return shapes.task()


@pytest.fixture
def arrival():
    picture, found = draw_picture("usual", np.random.default_rng(4))
    assert len(found) > 1
    return Arrival(payload=picture, media_type="image/png", metadata={}, truth=found)


def submitted(task, arrival, seed, *, errs=False):
    hand = a_hand(lambda _: arrival, task.labeling, boxes)
    result = hand("id", errs, np.random.default_rng(seed))
    return task.labeling.answer(result, arrival.sample)


def test_the_task_keeps_every_law(task, monkeypatch):
    monkeypatch.setattr(subject, "STEPS", 150)  # half as many are enough for it
    assert check_task(task, np.random.default_rng(0)) == []


def test_the_bundled_settings_load_and_ask_two_annotators_for_cocos_map(task, tmp_path):
    settings = Path(flywheel.__file__).parent / "examples" / "shapes" / "flywheel.toml"
    shutil.copy(settings, tmp_path / "flywheel.toml")
    project = load_project(tmp_path)
    assert load_task(project.project.task, tmp_path).trainer is None
    metric = name_metric(project.metric, task.scores)
    assert metric.optimize.endswith("flywheel.scoring:mean_average_precision")
    assert (project.labeling.annotations_per_sample, project.labeling.agreement) == (2, 2)


@pytest.mark.parametrize("kind", ["usual", "hollow", "light"])
def test_every_shape_lies_in_its_box_and_no_two_meet(kind):
    rng = np.random.default_rng(0)
    for _ in range(50):
        picture, found = draw_picture(kind, rng)
        pixels = np.asarray(open_picture(Sample.of(picture, "image/png")), dtype=np.int64)
        is_ink, paper = np.zeros(pixels.shape, dtype=bool), np.bincount(pixels.ravel()).argmax()
        for box in found:
            rows, columns = (
                slice(box[at], box[at] + box[side])
                for at, side in (("y", "height"), ("x", "width"))
            )
            assert not is_ink[rows, columns].any()
            is_ink[rows, columns] = True
            assert (pixels[rows, columns] != paper).any(axis=0).all()
        assert (pixels[~is_ink] == paper).all()


def test_a_night_is_the_same_at_every_call_and_nights_seeds_and_truth_sets_differ():
    world = Pictures(seed=1, is_drifting=True)
    assert world.traffic(2) == world.traffic(2)
    other = Pictures(seed=2, is_drifting=True).traffic(2)
    payloads = [
        {one.payload for one in some}
        for some in (world.traffic(2), world.traffic(3), other, world.truth_set(2, 400))
    ]
    assert len(set.union(*payloads)) > 1_590


def test_rare_kinds_stay_rare_in_the_long_tail_and_grow_where_everything_moved(task):
    demo = find_demo("shapes")
    rare = {}
    for name in demo.worlds:
        for night in (0, 12):
            arrivals = demo.world(0, name).traffic(night)
            kinds = Counter(one.kind for one in arrivals)
            rare[name, night] = 1 - kinds["usual"] / len(arrivals)
            is_light = [task.slices["light paper"](one.sample) for one in arrivals]
            assert is_light == [one.kind == "light" for one in arrivals]
    assert max(rare["long-tail", 0], rare["long-tail", 12]) < 0.16
    assert 0.2 < rare["everything-moved", 0] < rare["everything-moved", 12] - 0.2


def test_two_who_do_not_err_agree_on_the_truth_and_the_label_is_their_mean(task, arrival):
    one, other = (submitted(task, arrival, seed) for seed in (1, 2))
    assert one != other
    assert task.agree(one, other)
    merged = task.merge([one, other])
    assert merged[0]["x"] == pytest.approx((one[0]["x"] + other[0]["x"]) / 2)
    assert Pictures.is_right(merged, arrival.truth)


def test_who_errs_forgets_a_box_or_names_one_wrongly(task, arrival):
    found = [submitted(task, arrival, seed, errs=True) for seed in range(20)]
    assert {len(one) for one in found} == {len(arrival.truth) - 1, len(arrival.truth)}
    assert not any(Pictures.is_right(one, arrival.truth) for one in found)
    assert {box["label"] for one in found for box in one} <= set(LABELS)


def test_what_never_arrived_is_skipped(task):
    hand = a_hand(lambda _: None, task.labeling, boxes)
    assert hand("id", False, np.random.default_rng(0)) is None
