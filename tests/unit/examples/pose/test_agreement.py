"""People agree within what they can see, and their mean is better than each of them."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from flywheel.examples.pose.labeling import agree, merge
from flywheel.examples.pose.posing import angle_deg, read_pose, write_pose


@pytest.fixture
def answer(make_pose):
    """(turn in degrees, shift in metres, std in cm and degrees) -> a pose's JSON."""

    def build(rotvec_deg=(0, 0, 0), shift_m=(0, 0, 0), std=(0.0, 0.0)):
        pose = make_pose(rotvec_deg, np.array([0.0, 0.0, 0.5]) + shift_m)
        return write_pose(replace(pose, std_cm=std[0], std_deg=std[1]))

    return build


@pytest.fixture
def half_turned(part):
    """A part that looks the same after half a turn about z."""
    turns = Rotation.from_rotvec([[0, 0, 0], [0, 0, 180]], degrees=True).as_matrix()
    return replace(part, symmetries=turns)


@pytest.mark.parametrize(
    ("rotvec_deg", "shift_m", "std", "expected"),
    [
        ((0, 0, 0), (0, 0, 0), (0, 0), True),
        ((9, 0, 0), (0, 0, 0.009), (0, 0), True),
        ((11, 0, 0), (0, 0, 0), (0, 0), False),
        ((0, 0, 0), (0.011, 0, 0), (0, 0), False),
        ((0, 0, 0), (0, 0, 0.02), (0.5, 3), True),
        ((15, 0, 0), (0, 0, 0), (0.5, 4), True),
        ((40, 0, 0), (0, 0, 0), (9, 90), False),
        ((0, 0, 0), (0, 0.04, 0), (9, 90), False),
    ],
)
def test_agreement_is_a_distance_that_doubt_widens_up_to_a_bound(
    part, answer, rotvec_deg, shift_m, std, expected
):
    one, other = answer((0, 0, 0), (0, 0, 0), std), answer(rotvec_deg, shift_m, std)
    assert agree(part, one, other) is expected
    assert agree(part, other, one) is expected


def test_symmetric_positions_are_the_same_answer(part, half_turned, answer):
    one, other = answer((0, 0, 3)), answer((0, 0, 180))
    assert not agree(part, one, other)
    assert agree(half_turned, one, other)


def test_one_answer_stands_for_itself(part, answer):
    assert merge(part, [answer((1, 2, 3))]) == answer((1, 2, 3))


def test_two_answers_meet_where_their_std_says(part, answer):
    sure = answer((0, 0, 0), (0, 0, 0), (0.1, 1.0))
    unsure = answer((0, 0, 5), (0.005, 0, 0), (0.2, 2.0))
    merged = read_pose(merge(part, [sure, unsure]))
    assert merged.position_m[0] == pytest.approx(0.001, rel=0.3)
    assert Rotation.from_matrix(merged.rotation).magnitude() == pytest.approx(
        np.radians(1), rel=0.3
    )


def test_answers_in_symmetric_positions_do_not_cancel(half_turned, answer):
    merged = read_pose(merge(half_turned, [answer((0, 0, 2)), answer((0, 0, 178))]))
    assert angle_deg(merged.rotation, np.eye(3)) < 0.01


def test_one_wild_answer_hardly_moves_the_mean(part, answer):
    good = [answer((0, 0, d), (d / 1000, 0, 0), (0.3, 2)) for d in (-1, 0, 0.5, 1)]
    merged = read_pose(merge(part, [*good, answer((0, 90, 0), (0.05, 0, 0), (0.3, 2))]))
    assert angle_deg(merged.rotation, np.eye(3)) < 2
    assert np.linalg.norm(merged.position_m - [0, 0, 0.5]) < 0.003


def test_the_merged_std_is_that_of_a_mean(part, answer):
    same = [answer((0, 0, 0), (0, 0, 0), (0.4, 4))] * 4
    merged = read_pose(merge(part, same))
    assert (merged.std_cm, merged.std_deg) == pytest.approx((0.2, 2.0))


def test_the_merged_std_holds_in_simulation(part, answer):
    rng = np.random.default_rng(0)
    found = []
    for _ in range(60):
        turns, shifts = rng.normal(0, 2, (3, 3)), rng.normal(0, 0.002, (3, 3))
        std = (0.2 * np.sqrt(3), 2 * np.sqrt(3))
        merged = read_pose(
            merge(part, [answer(*pair, std) for pair in zip(turns, shifts, strict=False)])
        )
        found.append((100 * (merged.position_m - [0, 0, 0.5])) ** 2 / merged.std_cm**2)
    assert np.sum(found, axis=1).mean() == pytest.approx(0.9, abs=0.25)


def test_nothing_has_no_mean(part):
    with pytest.raises(ValueError, match="0 answers have no mean"):
        merge(part, [])
