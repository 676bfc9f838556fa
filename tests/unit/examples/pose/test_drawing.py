"""Scores are zero and one at best, and a drawing shows answer and label where they are."""

import io

import numpy as np
import pytest
from PIL import Image

from flywheel.errors import TaskError
from flywheel.examples.pose.posing import encode, write_pose
from flywheel.examples.pose.scores import pose_scores
from flywheel.examples.pose.task import draw_pose
from flywheel.records import Sample


@pytest.fixture
def sample(camera):
    payload = encode(np.full((64, 64, 3), 120, np.uint8))
    return Sample.of(payload, "image/png", {"camera": camera.values})


def _pixels(png):
    return np.array(Image.open(io.BytesIO(png)))


def _has(image, colour):
    return (np.abs(image.astype(int) - colour).max(axis=2) < 20).sum() > 50


ORANGE, GREEN = (255, 140, 0), (0, 220, 90)


def test_a_label_scores_perfectly_against_itself(part, make_pose):
    pose = write_pose(make_pose((10.0, 20.0, 30.0)))
    scores = pose_scores(part, pose, pose)
    best = {"add_auc": 1.0, "adds_auc": 1.0, "grasped": 1.0}
    assert scores == {name: pytest.approx(best.get(name, 0.0), abs=1e-5) for name in scores}


def test_an_area_falls_with_the_error_down_to_nothing(part, make_pose):
    label = write_pose(make_pose())
    areas = [
        pose_scores(part, write_pose(make_pose(position_m=(0, 0, z))), label)["add_auc"]
        for z in (0.53, 0.65)
    ]
    assert areas == pytest.approx([0.7, 0.0])


@pytest.mark.parametrize("answer", [None, {}, {"position_m": [0, 0, 1]}])
def test_what_is_no_pose_has_no_score(part, make_pose, answer):
    with pytest.raises(TaskError, match="is not a pose"):
        pose_scores(part, answer, write_pose(make_pose()))


def test_a_sample_alone_is_drawn_as_it_is(part, sample):
    image = _pixels(draw_pose(part, sample, None, None))
    assert image.shape == (384, 384, 3)
    assert (image == 120).all()


def test_answer_and_label_have_a_colour_each(part, sample, make_pose):
    one, other = write_pose(make_pose()), write_pose(make_pose(position_m=(0.1, 0.1, 0.6)))
    both = _pixels(draw_pose(part, sample, one, other))
    alone = _pixels(draw_pose(part, sample, None, other))
    assert (_has(both, ORANGE), _has(both, GREEN)) == (True, True)
    assert (_has(alone, ORANGE), _has(alone, GREEN)) == (False, True)


def test_lines_lie_where_the_part_is_projected(part, sample, make_pose):
    pose = make_pose((30.0, 0.0, 0.0))
    image = _pixels(draw_pose(part, sample, write_pose(pose), None))
    places = pose.transform(part.edges.reshape(-1, 3))
    u = places[:, 0] / places[:, 2] * 80.0 + 31.5
    columns = np.flatnonzero((np.abs(image[60:].astype(int) - ORANGE).max(axis=2) < 20).any(axis=0))
    assert columns.min() == pytest.approx((u.min() + 0.5) * 6, abs=3)
    assert columns.max() == pytest.approx((u.max() + 0.5) * 6, abs=3)


@pytest.mark.parametrize("position_m", [(0, 0, -0.3), (0, 0, 0.01), (90.0, 0, 0.1)])
def test_a_pose_out_of_sight_breaks_nothing(part, sample, make_pose, position_m):
    pose = write_pose(make_pose(position_m=position_m))
    assert draw_pose(part, sample, pose, None).startswith(b"\x89PNG")
