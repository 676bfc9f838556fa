"""A grasp fails with an error that is large enough, in any direction, and picks are worth time."""

import math
from dataclasses import replace

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from flywheel.errors import TaskError
from flywheel.examples.pose.scores import grasps, picks_per_hour
from flywheel.metrics.compiled import compile_formula

FLIP = np.diag([-1.0, 1.0, -1.0])  # half a turn about the grip axis


def _off(pose, shift_cm=(0.0, 0.0, 0.0), turn_deg=(0.0, 0.0, 0.0)):
    """The pose, wrong by a shift and a turn in the part's own frame."""
    turn = Rotation.from_rotvec(turn_deg, degrees=True).as_matrix()
    position = pose.position_m + pose.rotation @ np.array(shift_cm) / 100.0
    return replace(pose, rotation=pose.rotation @ turn, position_m=position)


def _most(does_grasp):
    """The error of 0..60 up to which it grasps; it must fail from there on."""
    held = [does_grasp(error) for error in np.linspace(0.0, 60.0, 601)]
    assert held == sorted(held, reverse=True)
    return 0.1 * (sum(held) - 1)


def test_the_true_pose_grasps(part, draw_poses):
    assert all(grasps(part, pose, pose) for pose in draw_poses(50, 0))


def test_two_clearances_sideways_do_not(part, draw_poses):
    shift = 2 * part.grip_clearance_cm * part.grip_axis
    assert not any(grasps(part, _off(pose, shift), pose) for pose in draw_poses(50, 1))


@pytest.mark.parametrize("sign", [-1, 1])
def test_sideways_the_clearance_is_the_limit(part, make_pose, sign):
    pose = make_pose([10, 20, 30])
    most_mm = _most(lambda mm: grasps(part, _off(pose, sign * mm / 10 * part.grip_axis), pose))
    assert most_mm == pytest.approx(10 * part.grip_clearance_cm, abs=0.11)


@pytest.mark.parametrize("direction", [(1, 0, 0), (0, 0, -1), (0.6, 0, 0.8)])
def test_across_a_quarter_of_the_diameter_is(part, make_pose, direction):
    pose = make_pose([10, 20, 30])
    most_mm = _most(lambda mm: grasps(part, _off(pose, np.multiply(direction, mm / 10)), pose))
    assert most_mm == pytest.approx(250 * part.diameter_m, abs=0.11)


@pytest.mark.parametrize(
    ("axis", "most_deg"), [((0, 1, 0), 30.0), ((1, 0, 0), 23.6), ((0, 0, -1), 23.6)]
)
def test_turned_about_the_grip_axis_it_may_be_more_than_tilted(part, make_pose, axis, most_deg):
    pose = make_pose([10, 20, 30])
    found = _most(lambda deg: grasps(part, _off(pose, turn_deg=np.multiply(axis, deg)), pose))
    assert found == pytest.approx(most_deg, abs=0.11)


def test_a_tilt_and_a_shift_add_up(part, make_pose):
    pose = make_pose()
    assert grasps(part, _off(pose, (0, 0.6, 0)), pose)
    assert grasps(part, _off(pose, turn_deg=(10, 0, 0)), pose)
    assert not grasps(part, _off(pose, (0, 0.6, 0), (10, 0, 0)), pose)


def test_a_part_that_looks_the_same_is_grasped_the_same(part, make_pose):
    pose = make_pose([10, 20, 30])
    found = replace(pose, rotation=pose.rotation @ FLIP)
    assert not grasps(part, found, pose)
    assert grasps(replace(part, symmetries=np.stack([np.eye(3), FLIP])), found, pose)


@pytest.mark.parametrize(
    ("clearance_cm", "turn_deg", "shift_cm", "simulated"),
    [
        (0.5, 0, 0.5, 1.00),
        (0.5, 0, 0.8, 0.61),
        (0.5, 0, 1.5, 0.35),
        (0.5, 5, 0.5, 0.80),
        (0.5, 5, 1.0, 0.47),
        (0.8, 0, 1.0, 0.82),
        (0.8, 5, 0.5, 1.00),
        (0.8, 5, 0.8, 0.85),
        (0.8, 5, 1.5, 0.52),
    ],
)
def test_the_rule_agrees_with_simulated_grasps(
    part, make_pose, clearance_cm, turn_deg, shift_cm, simulated
):
    tight = replace(part, grip_clearance_cm=clearance_cm)
    draws = np.random.default_rng(0).normal(size=(2, 500, 3))
    shifts, turns = draws / np.linalg.norm(draws, axis=2, keepdims=True)
    true = make_pose()
    tries = [
        _off(true, shift_cm * shift, turn_deg * turn)
        for shift, turn in zip(shifts, turns, strict=True)
    ]
    share = np.mean([grasps(tight, found, true) for found in tries])
    assert share == pytest.approx(simulated, abs=0.12)


@pytest.mark.parametrize(
    ("grasped", "picks"), [([1, 1], 600.0), ([0, 0], 0.0), ([1, 0], 200.0), ([1, 1, 1, 0], 360.0)]
)
def test_picks_per_hour_known_by_hand(grasped, picks):
    scores = {"grasped": np.array(grasped, dtype=float)}
    assert picks_per_hour(scores, np.ones(len(grasped))) == pytest.approx(picks)


def test_weights_count_as_so_many_samples():
    twice = {"grasped": np.array([1.0, 1.0, 0.0])}
    once = {"grasped": np.array([1.0, 0.0, 1.0])}
    assert picks_per_hour(once, np.array([4.0, 2.0, 0.0])) == picks_per_hour(twice, np.ones(3))


def test_without_weight_picks_are_not_defined():
    assert math.isnan(picks_per_hour({"grasped": np.ones(2)}, np.zeros(2)))


def test_without_the_score_it_is_reported():
    with pytest.raises(TaskError, match="need the score 'grasped', there are correct"):
        picks_per_hour({"correct": np.ones(2)}, np.ones(2))


def test_it_is_a_term_of_a_formula(tmp_path):
    formula = compile_formula("flywheel.examples.pose.scores:picks_per_hour", tmp_path)
    scores = {"grasped": np.array([1.0, 0.0]), "error_cm": np.array([0.2, 3.0])}
    found = formula(scores, np.array([[1.0, 1.0], [1.0, 0.0]]))
    np.testing.assert_allclose(found, [200.0, 600.0])
