"""Angles keep their digits, and the mean is the geodesic median."""

import numpy as np
import pytest
from scipy.optimize import minimize
from scipy.spatial.transform import Rotation

from flywheel.examples.pose.posing import angle_deg, mean_rotation


def _about(axis, degrees):
    unit = np.array(axis) / np.linalg.norm(axis)
    return Rotation.from_rotvec(unit * degrees, degrees=True).as_matrix()


def _draw(number, seed):
    return Rotation.random(number, rng=np.random.default_rng(seed)).as_matrix()


@pytest.mark.parametrize("degrees", [0.0, 1e-9, 1e-3, 45.0, 90.0, 179.0, 179.9999999, 180.0])
def test_the_angle_of_a_turn_is_that_turn(degrees):
    base = _draw(1, 0)[0]
    assert angle_deg(_about([1, 2, -3], degrees) @ base, base) == pytest.approx(degrees, abs=1e-12)


def test_angles_broadcast_and_agree_with_scipy():
    one, other = _draw(6, 1), _draw(4, 2)
    found = angle_deg(one[:, None], other)
    assert found.shape == (6, 4)
    expected = Rotation.from_matrix(one[5] @ other[3].T).magnitude()
    assert found[5, 3] == pytest.approx(np.degrees(expected))


def test_the_mean_minimises_the_sum_of_angles():
    rotations, weights = _draw(9, 3), np.random.default_rng(3).uniform(0.2, 2, 9)

    def cost(rotvec):
        return weights @ angle_deg(rotations, Rotation.from_rotvec(rotvec).as_matrix())

    found = Rotation.from_matrix(mean_rotation(rotations, weights)).as_rotvec()
    best = minimize(cost, found, method="Nelder-Mead", options={"xatol": 1e-8, "fatol": 1e-8})
    assert cost(found) <= best.fun + 1e-6


def test_a_wild_rotation_does_not_move_the_mean():
    near = np.stack([_about(axis, 1.0) for axis in np.vstack([np.eye(3), -np.eye(3)])])
    with_wild = np.concatenate([near, [_about([1, 1, 0], 170.0)]])
    assert angle_deg(mean_rotation(with_wild, np.ones(7)), np.eye(3)) < 0.5


@pytest.mark.parametrize("heavy", [0, 1])
def test_of_two_rotations_the_heavier_one_wins(heavy):
    pair, weights = _draw(2, 4), np.array([1.0, 1.0])
    weights[heavy] = 3.0
    assert angle_deg(mean_rotation(pair, weights), pair[heavy]) < 1e-3


def test_the_mean_of_one_or_of_equal_rotations_is_that_rotation():
    one = _draw(1, 5)
    for count in (1, 4):
        found = mean_rotation(np.repeat(one, count, axis=0), np.ones(count))
        np.testing.assert_allclose(found, one[0], atol=1e-12)


@pytest.mark.parametrize("weights", [[], [1.0], [0.0, 0.0], [1.0, -0.5], [1.0, np.nan]])
def test_weights_that_cannot_be_are_refused(weights):
    with pytest.raises(ValueError, match="weight >= 0"):
        mean_rotation(_draw(2 if weights else 0, 6), np.array(weights))
