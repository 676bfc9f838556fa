"""Cameras look where they should, and parts lie on the floor."""

import numpy as np
import pytest

from flywheel.examples.pose.posing import Camera, angle_deg, project
from flywheel.examples.pose.render.scene import leaning, look_at, resting, seen_from

CAMERA = Camera(fx=160.0, fy=160.0, cx=31.5, cy=31.5)


def _check_rotation(matrix):
    np.testing.assert_allclose(matrix @ matrix.T, np.eye(3), atol=1e-9)
    assert np.linalg.det(matrix) > 0


@pytest.mark.parametrize("eye", [(0.0, 0.0, 0.5), (0.2, -0.1, 0.4), (-0.3, 0.3, 0.3)])
def test_the_target_is_on_the_axis_and_up_is_up(eye):
    view, target = look_at(np.array(eye), np.array([0.01, 0.02, 0.0])), np.array([0.01, 0.02, 0.0])
    _check_rotation(view.rotation)
    np.testing.assert_allclose((view.rotation @ target + view.position_m)[:2], 0, atol=1e-12)
    above = project(view.rotation @ (target + np.array([0, 0.01, 0])) + view.position_m, CAMERA)
    assert above[0] == pytest.approx(31.5, abs=1e-9) or eye[0] != 0
    assert above[1] < 31.5


def test_roll_turns_the_picture():
    straight, turned = (look_at(np.array([0, 0, 0.5]), np.zeros(3), roll) for roll in (0.0, 90.0))
    point = np.array([0.05, 0.0, 0.0])
    np.testing.assert_allclose(
        (straight.rotation @ point + straight.position_m), [0.05, 0, 0.5], atol=1e-12
    )
    np.testing.assert_allclose(
        (turned.rotation @ point + turned.position_m), [0, -0.05, 0.5], atol=1e-12
    )


@pytest.mark.parametrize("tilt", [0.0, 17.0, 40.0])
def test_leaning_tips_the_vertical_by_the_tilt_alone(tilt):
    rotation = leaning(123.0, tilt, 45.0)
    _check_rotation(rotation)
    assert np.degrees(np.arccos(rotation[2, 2])) == pytest.approx(tilt, abs=1e-5)
    side = np.array([np.cos(np.pi / 4), np.sin(np.pi / 4)])
    assert (rotation[:2, 2] @ side) == pytest.approx(np.sin(np.radians(tilt)))


def test_yaw_turns_about_the_vertical():
    assert angle_deg(leaning(10.0, 0.0, 0.0), leaning(50.0, 0.0, 0.0)) == pytest.approx(40.0)


def test_a_resting_part_touches_the_floor_above_its_place(part):
    rotation = leaning(200.0, 30.0, 10.0)
    lying = part.vertices @ rotation.T + resting(part, rotation, np.array([0.03, -0.02]))
    assert lying[:, 2].min() == pytest.approx(0.0, abs=1e-12)
    middle = (lying.min(axis=0) + lying.max(axis=0))[:2] / 2
    np.testing.assert_allclose(middle, [0.03, -0.02], atol=1e-12)


def test_the_pose_before_the_camera_is_view_after_pose_in_the_bin(part):
    view, rotation = look_at(np.array([0.1, -0.2, 0.4]), np.zeros(3)), leaning(30.0, 20.0, 0.0)
    position = resting(part, rotation, np.zeros(2))
    pose = seen_from(view, CAMERA, rotation, position)
    in_bin = part.vertices @ rotation.T + position
    np.testing.assert_allclose(
        pose.transform(part.vertices), in_bin @ view.rotation.T + view.position_m, atol=1e-12
    )
