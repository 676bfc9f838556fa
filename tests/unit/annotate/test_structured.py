"""Labels of answers that are only near each other: keypoints, boxes and poses."""

import dataclasses

import numpy as np
import pytest

from flywheel.annotate import make_labels
from flywheel.examples.pose import load_part, pose_task
from flywheel.examples.pose.part import EXAMPLE_PART
from flywheel.examples.pose.posing import write_pose
from flywheel.examples.pose.start import start_scene
from flywheel.ledger.annotations import newest_labels
from flywheel.project import Project

NUM_SAMPLES = 12


def _overlap(one, other):
    """Intersection over union of boxes (left, top, right, bottom)."""
    low, high = np.maximum(one[:2], other[:2]), np.minimum(one[2:], other[2:])
    both = np.prod(np.maximum(high - low, 0.0))
    areas = [np.prod(np.subtract(box[2:], box[:2])) for box in (one, other)]
    return both / (sum(areas) - both)


def _mean(answers):
    return np.mean(answers, axis=0).tolist()


def _is_near(one, other):
    return bool(np.abs(np.subtract(one, other)).max() < 3.0)


def _keypoints(rng):
    return rng.uniform(10.0, 90.0, (5, 2)).tolist()


def _box(rng):
    corner = rng.uniform(10.0, 40.0, 2)
    return [*corner.tolist(), *(corner + rng.uniform(20.0, 40.0, 2)).tolist()]


def _shaken(answer, rng):
    return np.add(answer, rng.normal(0.0, 0.4, np.shape(answer))).tolist()


@pytest.fixture
def label(tmp_path, points_task, crew):
    """(agree, merge, answers by sample and person) -> the labels that annotators came to."""

    def run(agree, merge, given):
        task = dataclasses.replace(points_task, agree=agree, merge=merge)
        project = Project(
            directory=tmp_path,
            project={"name": "shapes", "task": "t:t"},
            labeling={"annotations_per_sample": 3, "agreement": 2},
        )
        ids = crew.ask(len(given), num_annotators=3)
        for sample_id, answers in zip(ids, given, strict=True):
            for person, answer in answers.items():
                crew.answer(sample_id, person, answer=answer)
        make_labels(crew.ledger, task, project, crew.now, 1)
        with crew.ledger.read() as connection:
            return [newest_labels(connection, ids)[key] for key in ids]

    return run


@pytest.mark.parametrize(
    ("draw", "agree"),
    [(_keypoints, _is_near), (_box, lambda one, other: bool(_overlap(one, other) > 0.7))],
    ids=["keypoints", "boxes"],
)
def test_two_careful_annotators_outweigh_one_who_guesses_and_their_mean_is_the_label(
    draw, agree, label
):
    rng = np.random.default_rng(3)
    truths = [draw(rng) for _ in range(NUM_SAMPLES)]
    given = [
        {"ann": _shaken(one, rng), "bob": _shaken(one, rng), "zed": draw(rng)} for one in truths
    ]
    for found, truth, answers in zip(label(agree, _mean, given), truths, given, strict=True):
        assert found.reliability > 0.9
        assert found.answer == _mean([answers["ann"], answers["bob"]])
        assert np.abs(np.subtract(found.answer, truth)).max() < 2.0


def test_poses_that_are_the_same_to_an_annotator_are_one_label(label):
    task = pose_task(EXAMPLE_PART, 2, 0)
    part, rng = load_part(EXAMPLE_PART), np.random.default_rng(0)
    poses = [write_pose(start_scene(part, rng).pose) for _ in range(2 * NUM_SAMPLES)]
    given = [
        {"ann": pose, "bob": pose, "zed": other}
        for pose, other in zip(poses[:NUM_SAMPLES], poses[NUM_SAMPLES:], strict=True)
    ]
    for found, pose in zip(label(task.agree, task.merge, given), poses, strict=False):
        assert found.reliability > 0.9
        assert task.agree(found.answer, pose)
