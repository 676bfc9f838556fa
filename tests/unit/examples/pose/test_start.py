"""Start data is the same at every call, clean, narrow, and labeled with its exact pose."""

import numpy as np
import pytest

from flywheel.examples.pose.posing import decode, project, read_pose
from flywheel.examples.pose.render import visibility
from flywheel.examples.pose.start import start_examples, start_scene
from flywheel.records import Split


@pytest.fixture(scope="module")
def examples(part):
    return list(start_examples(part, 100, 30))


def test_the_same_examples_come_at_every_call(part, examples):
    again = list(start_examples(part, 100, 30))
    assert [e.sample for e in examples] == [e.sample for e in again]
    assert [e.answer for e in examples] == [e.answer for e in again]


def test_those_to_train_on_come_first_and_all_differ(examples):
    assert [e.split for e in examples] == [Split.TRAIN] * 100 + [Split.TEST] * 30
    assert len({e.sample.id for e in examples}) == 130
    assert len({e.sample.metadata["scene"] for e in examples}) == 130


def test_the_answer_holds_the_camera_of_the_sample_and_is_exact(examples):
    for example in examples:
        pose = read_pose(example.answer)
        assert pose.camera.values == example.sample.metadata["camera"]
        assert (pose.std_cm, pose.std_deg) == (0.0, 0.0)


def test_the_part_is_brighter_than_the_floor_where_the_answer_says(part, examples):
    for example in examples[:30]:
        pose, pixels = read_pose(example.answer), decode(example.sample)
        points = pose.transform(part.points)
        # Points at the far side are hidden by brighter ones: all lie within the part's outline.
        u, v = np.rint(project(points, pose.camera)).astype(int).T
        assert np.quantile(pixels[v, u], 0.7) > np.median(pixels) + 20


def test_parts_are_turned_in_every_way_and_hardly_tilted(part):
    rng = np.random.default_rng(0)
    scenes = [start_scene(part, rng) for _ in range(100)]
    turned = np.array([scene.view.rotation.T @ scene.pose.rotation for scene in scenes])
    yaws = np.degrees(np.arctan2(turned[:, 1, 0], turned[:, 0, 0]))
    assert np.ptp(np.sort(yaws)) > 340
    assert np.degrees(np.arccos(turned[:, 2, 2].clip(-1, 1))).max() <= 15.0001


def test_nothing_hides_the_part_and_it_fills_much_of_the_picture(part):
    rng = np.random.default_rng(0)
    for scene in [start_scene(part, rng) for _ in range(20)]:
        pixels = project(scene.pose.transform(part.vertices), scene.pose.camera)
        assert 0.45 < np.ptp(pixels, axis=0).max() / 64 < 0.8
        assert pixels.min() > 1
        assert pixels.max() < 62
        assert visibility(part, scene).part == 1.0
