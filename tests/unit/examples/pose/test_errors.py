"""Pose errors agree with their definitions written out, and with cases known by hand."""

from dataclasses import replace

import numpy as np
import pytest

from flywheel.examples.pose.posing import Camera, angle_deg
from flywheel.examples.pose.scores import MOST_PX, area, pose_errors

HALF_TURN = np.diag([-1.0, -1.0, 1.0])
NAMES = {"error_cm", "error_deg", "add_cm", "adds_cm", "mssd_cm", "mspd_px"}


@pytest.fixture(scope="module")
def symmetric(part):
    """A small cloud and its half turn, as a part that looks the same from both sides."""
    points = np.random.default_rng(0).normal(size=(40, 3)) * [0.03, 0.02, 0.01]
    both = np.concatenate([points, points @ HALF_TURN])
    symmetries = np.stack([np.eye(3), HALF_TURN])
    return replace(part, points=both, vertices=both, symmetries=symmetries)


@pytest.fixture(scope="module")
def pairs(draw_poses):
    """Found and true poses: some near, some of any kind."""
    true, found = draw_poses(8, 1), draw_poses(8, 2)
    nudged = [replace(pose, position_m=pose.position_m + 0.004) for pose in true[:4]]
    return nudged + found[4:], true


def _place(pose, point, symmetry=None):
    turned = point if symmetry is None else symmetry @ point
    return pose.rotation @ turned + pose.position_m


def _pixel(pose, camera, point, symmetry=None):
    x, y, z = _place(pose, point, symmetry)
    return np.array([camera.fx * x / z + camera.cx, camera.fy * y / z + camera.cy])


def _add(part, found, true):
    return np.mean([np.linalg.norm(_place(found, x) - _place(true, x)) for x in part.points])


def _adds(part, found, true):
    ours = [_place(found, x) for x in part.points]
    nearest = [min(np.linalg.norm(_place(true, x) - y) for y in ours) for x in part.points]
    return np.mean(nearest)


def _mssd(part, found, true):
    return min(
        max(np.linalg.norm(_place(found, x) - _place(true, x, s)) for x in part.vertices)
        for s in part.symmetries
    )


def _mspd(part, found, true):
    camera = true.camera  # also for the found pose
    return min(
        max(
            np.linalg.norm(_pixel(found, camera, x) - _pixel(true, camera, x, s))
            for x in part.vertices
        )
        for s in part.symmetries
    )


def _turn(part, found, true):
    return min(angle_deg(found.rotation, true.rotation @ s) for s in part.symmetries)


def _shift(part, found, true):
    return np.linalg.norm(found.position_m - true.position_m)


DEFINITIONS = {
    "add_cm": (_add, 100),
    "adds_cm": (_adds, 100),
    "mssd_cm": (_mssd, 100),
    "mspd_px": (_mspd, 1),
    "error_deg": (_turn, 1),
    "error_cm": (_shift, 100),
}


@pytest.mark.parametrize("name", DEFINITIONS)
def test_an_error_is_what_its_definition_says(symmetric, pairs, name):
    slow, unit = DEFINITIONS[name]
    for pair in zip(*pairs, strict=True):
        expected = unit * slow(symmetric, *pair)
        assert pose_errors(symmetric, *pair)[name] == pytest.approx(expected, rel=1e-9)


def test_the_right_pose_has_no_error(part, draw_poses):
    for pose in draw_poses(5, 3):
        errors_of = pose_errors(part, pose, pose)
        assert errors_of == pytest.approx(dict.fromkeys(NAMES, 0.0), abs=1e-9)


def test_a_pure_shift_is_the_same_for_every_point(part, make_pose):
    true, found = make_pose([10, 20, 30]), make_pose([10, 20, 30], [0.003, -0.004, 0.5])
    errors_of = pose_errors(part, found, true)
    for name in ("error_cm", "add_cm", "mssd_cm"):
        assert errors_of[name] == pytest.approx(0.5)
    assert errors_of["error_deg"] == pytest.approx(0.0, abs=1e-9)
    assert 0.0 < errors_of["adds_cm"] < 0.5


def test_a_symmetry_is_no_error_except_to_add(symmetric, make_pose):
    true = make_pose([10, 20, 30], [0.01, 0.02, 0.4])
    errors_of = pose_errors(symmetric, replace(true, rotation=true.rotation @ HALF_TURN), true)
    assert errors_of.pop("add_cm") > 1.0
    assert list(errors_of.values()) == pytest.approx([0.0] * 5, abs=1e-9)


def test_without_symmetries_a_half_turn_is_180_degrees(part, make_pose):
    true = make_pose()
    errors_of = pose_errors(part, replace(true, rotation=HALF_TURN), true)
    assert errors_of["error_deg"] == pytest.approx(180.0)


def test_a_shift_across_the_view_is_seen_in_pixels_of_the_true_camera(part, make_pose):
    true = make_pose(position_m=(0.0, 0.0, 1e3))  # so far that all depths are the same
    other = Camera(fx=1.0, fy=1.0, cx=0.0, cy=0.0)
    found = make_pose(position_m=(25.0, 0.0, 1e3), camera=other)
    assert pose_errors(part, found, true)["mspd_px"] == pytest.approx(2.0, rel=1e-3)


@pytest.mark.parametrize("depth_m", [-0.5, 0.0, 0.02])
def test_behind_the_camera_is_a_huge_but_finite_error(part, make_pose, depth_m):
    pair = [make_pose(position_m=(0, 0, depth_m)), make_pose()]
    for found, true in (pair, pair[::-1]):
        assert pose_errors(part, found, true)["mspd_px"] == MOST_PX


def test_add_s_is_at_most_add_and_mssd_at_least(part, draw_poses):
    for pair in zip(draw_poses(30, 4), draw_poses(30, 5), strict=True):
        found = pose_errors(part, *pair)
        assert found["adds_cm"] <= found["add_cm"] + 1e-12 <= found["mssd_cm"] + 2e-12


def test_another_part_has_its_own_index(part, symmetric, draw_poses):
    [pair] = zip(draw_poses(1, 8), draw_poses(1, 9), strict=True)
    assert pose_errors(part, *pair)["adds_cm"] != pose_errors(symmetric, *pair)["adds_cm"]


def test_the_mean_area_is_that_under_the_curve():
    found = np.random.default_rng(0).exponential(4.0, 200)
    thresholds = (np.arange(100_000) + 0.5) / 100_000 * 10.0
    curve = np.searchsorted(np.sort(found), thresholds) / len(found)
    assert np.mean([area(error) for error in found]) == pytest.approx(curve.mean(), abs=1e-4)


@pytest.mark.parametrize(("error", "found"), [(0.0, 1.0), (10.0, 0.0), (99.0, 0.0), (5.0, 0.5)])
def test_areas_known_by_hand(error, found):
    assert area(error) == found
