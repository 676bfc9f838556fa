"""One answer against one label, as the numbers that metrics are made of."""

from dataclasses import replace

import numpy as np
import pytest

from flywheel.errors import TaskError
from flywheel.examples.pose.posing import write_pose
from flywheel.examples.pose.scores import pose_scores

HALF_TURN = np.diag([-1.0, -1.0, 1.0])


@pytest.fixture
def half_turned(part):
    """The part with points that a half turn about z maps to themselves."""
    points = np.concatenate([part.points, part.points @ HALF_TURN])
    return replace(part, points=points, symmetries=np.stack([np.eye(3), HALF_TURN]))


def test_a_perfect_answer_has_no_error_and_is_grasped(part, make_pose):
    scores = pose_scores(part, write_pose(make_pose()), write_pose(make_pose()))
    assert all(scores[name] < 1e-4 for name in scores if name.endswith(("_cm", "_deg", "_px")))
    assert (scores["add_auc"], scores["adds_auc"], scores["grasped"]) == pytest.approx((1, 1, 1))


def test_a_shift_is_reported_in_centimetres_and_takes_its_part_of_the_area(part, make_pose):
    moved = make_pose(position_m=(0.0, 0.02, 0.5))
    scores = pose_scores(part, write_pose(moved), write_pose(make_pose()))
    assert (scores["error_cm"], scores["add_cm"]) == pytest.approx((2.0, 2.0))
    assert scores["add_auc"] == pytest.approx(0.8)
    assert scores["grasped"] == 0.0


def test_add_of_a_symmetric_part_is_add_s(part, half_turned, make_pose):
    turned, true = write_pose(make_pose((0.0, 0.0, 180.0))), write_pose(make_pose())
    assert pose_scores(half_turned, turned, true)["add_cm"] == pytest.approx(0.0, abs=1e-6)
    assert pose_scores(part, turned, true)["add_cm"] > 3.0


def test_what_is_no_rotation_is_reported(part, make_pose):
    answer = write_pose(make_pose())
    with pytest.raises(TaskError, match="rotation"):
        pose_scores(part, {**answer, "rotation": [2.0, 0.0, 0.0, 0.0]}, answer)
