"""Answers and poses are two ways to say one thing; what is not a pose is reported by key and value."""

import json
from dataclasses import replace

import numpy as np
import pytest

from flywheel.errors import TaskError
from flywheel.examples.pose.posing import angle_deg, read_pose, write_pose
from flywheel.records import canonical


def test_a_pose_survives_json(draw_poses):
    for pose in draw_poses(20, 0):
        pose = replace(pose, std_cm=0.3, std_deg=2.5)  # noqa: PLW2901
        found = read_pose(json.loads(canonical(write_pose(pose))))
        assert angle_deg(found.rotation, pose.rotation) < 1e-10
        assert found.position_m.tolist() == pose.position_m.tolist()
        assert (found.camera, found.std_cm, found.std_deg) == (pose.camera, 0.3, 2.5)


def test_both_signs_of_a_quaternion_are_written_the_same(make_pose):
    answer = write_pose(make_pose([10, 20, 30]))
    turned = answer | {"rotation": [-value for value in answer["rotation"]]}
    assert answer["rotation"][0] > 0
    np.testing.assert_allclose(write_pose(read_pose(turned))["rotation"], answer["rotation"])


@pytest.mark.parametrize("axis", [[1, 0, 0], [0, -1, 0], [-1, 0.5, 2]])
def test_a_half_turn_is_written_with_one_sign(make_pose, axis):
    turn = np.array(axis) / np.linalg.norm(axis) * 180.0
    one, other = (write_pose(make_pose(way))["rotation"] for way in (turn, -turn))
    np.testing.assert_allclose(one, other, atol=1e-9)


def test_single_precision_is_still_a_rotation(draw_poses):
    for pose in draw_poses(20, 7):
        write_pose(replace(pose, rotation=pose.rotation.astype(np.float32)))


def test_w_comes_first(make_pose):
    found = write_pose(make_pose([0, 0, 90]))["rotation"]
    np.testing.assert_allclose(found, [np.sqrt(0.5), 0, 0, np.sqrt(0.5)], atol=1e-12)


def test_points_are_turned_and_then_moved(make_pose):
    pose = make_pose([0, 0, 90], [1, 2, 3])
    np.testing.assert_allclose(pose.transform(np.array([[1.0, 0, 0]])), [[1, 3, 3]], atol=1e-12)


@pytest.mark.parametrize(
    ("changes", "reported"),
    [
        ({"rotation": [1, 0, 0]}, r"rotation = \[1, 0, 0\] is not a list of 4"),
        ({"rotation": [1, 1, 0, 0]}, "length 1.41421; it must be 1"),
        ({"rotation": [0, 0, 0, 0]}, "length 0"),
        ({"rotation": [float("nan"), 0, 0, 1]}, "rotation = .*finite"),
        ({"position_m": [0, 0, float("inf")]}, "position_m = .*finite"),
        ({"position_m": "far"}, "position_m = 'far'"),
        ({"position_m": [0, 0, True]}, "position_m = .*True"),
        ({"camera": [0, 70, 31, 31]}, "cannot be inverted"),
        ({"camera": None}, "camera None"),
        ({"std_cm": -1.0}, "std_cm = -1.0"),
        ({"std_deg": None}, "std_deg = None"),
        ({"roll": 1.0}, "'roll'.*write an object with exactly position_m"),
    ],
)
def test_what_is_no_pose_is_reported_by_key_and_value(make_pose, changes, reported):
    with pytest.raises(TaskError, match=reported):
        read_pose(write_pose(make_pose()) | changes)


@pytest.mark.parametrize("answer", [None, "left", [1, 2], {"position_m": [0, 0, 1]}])
def test_another_kind_of_answer_is_no_pose(answer):
    with pytest.raises(TaskError, match="is not a pose; write an object with exactly position_m"):
        read_pose(answer)


@pytest.mark.parametrize(
    "changes",
    [
        {"rotation": 2 * np.eye(3)},
        {"rotation": np.eye(3) + 1e-3},
        {"rotation": np.full((3, 3), np.nan)},
        {"rotation": np.diag([1.0, 1.0, -1.0])},
        {"position_m": np.array([0, np.nan, 1])},
        {"std_cm": np.inf},
    ],
)
def test_a_broken_pose_is_not_written(make_pose, changes):
    with pytest.raises(TaskError):
        write_pose(replace(make_pose(), **changes))
