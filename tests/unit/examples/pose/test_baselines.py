"""Every baseline answers every picture, and each beats the mean pose in what it can see."""

from dataclasses import replace

import cv2
import numpy as np
import pytest

from flywheel.examples.pose.baselines import Silhouettes, pose_baselines, segment
from flywheel.examples.pose.posing import Camera, angle_deg, decode, encode, read_pose
from flywheel.examples.pose.scores import pose_scores
from flywheel.examples.pose.start import start_examples
from flywheel.records import Sample, Split

NAMES = ["silhouette", "nearest neighbours", "ridge on gradients"]


@pytest.fixture(scope="module")
def examples(part):
    return list(start_examples(part, 300, 30))


@pytest.fixture(scope="module")
def predictors(part, examples):
    train = [e for e in examples if e.split is Split.TRAIN]
    samples, answers = [e.sample for e in train], [e.answer for e in train]
    return {name: b.fit(samples, answers) for name, b in pose_baselines(part).items()}


@pytest.fixture(scope="module")
def tests(examples):
    return [e for e in examples if e.split is Split.TEST]


def _drawn(part, pose):
    """The outline of the part, as a mask of 64 x 64 pixels."""
    places = pose.transform(part.vertices)
    pixels = places[:, :2] / places[:, 2:] * 200 + 31.5
    mask = np.zeros((64, 64), np.uint8)
    for corners in np.rint(pixels).astype(np.int32)[part.faces]:
        cv2.fillConvexPoly(mask, corners, 1)
    return mask


def _errors(part, predict, tests, score):
    found = predict([e.sample for e in tests])
    return [pose_scores(part, a, e.answer)[score] for a, e in zip(found, tests, strict=True)]


@pytest.mark.parametrize("name", ["nearest neighbours", "ridge on gradients"])
def test_what_learned_beats_guessing_a_rotation(part, predictors, tests, name):
    assert np.median(_errors(part, predictors[name], tests, "error_deg")) < 30  # 90 by chance


@pytest.mark.parametrize(
    ("name", "most_cm"),
    [("nearest neighbours", 0.7), ("ridge on gradients", 0.7), ("silhouette", 6.0)],
)
def test_a_baseline_finds_where_the_part_is(part, predictors, tests, name, most_cm):
    assert np.median(_errors(part, predictors[name], tests, "error_cm")) < most_cm


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("level", [0, 128, 255])
def test_an_empty_picture_gets_an_answer_too(predictors, name, level):
    payload = encode(np.full((64, 64, 3), level, np.uint8))
    sample = Sample.of(payload, "image/png", {"camera": [200.0, 200.0, 31.5, 31.5]})
    assert read_pose(predictors[name]([sample])[0]).position_m[2] > 0


@pytest.mark.parametrize("name", NAMES)
def test_nothing_is_answered_with_nothing(predictors, name):
    assert predictors[name]([]) == []


@pytest.mark.parametrize("name", ["nearest neighbours", "ridge on gradients"])
def test_another_camera_moves_the_answer_along(predictors, tests, name):
    sample = tests[0].sample
    near = {**sample.metadata, "camera": [400.0, 400.0, 31.5, 31.5]}
    twice = predictors[name]([Sample.of(sample.payload, "image/png", near)])[0]
    [once] = predictors[name]([sample])
    assert twice["position_m"][2] == pytest.approx(2 * once["position_m"][2])


def test_a_clean_outline_gives_the_pose(part, draw_poses):
    silhouettes, camera = Silhouettes(part), Camera(fx=200.0, fy=200.0, cx=31.5, cy=31.5)
    turns, shifts = [], []
    for pose in draw_poses(20, 0):
        true = replace(pose, position_m=pose.position_m * [0.2, 0.2, 0.0] + [0.0, 0.0, 0.45])
        found = silhouettes.pose(_drawn(part, true), camera)
        turns.append(angle_deg(found.rotation, true.rotation))
        shifts.append(100 * np.linalg.norm(found.position_m - true.position_m))
    assert np.median(turns) < 10
    assert np.median(shifts) < 1.5


def test_the_part_is_separated_from_floor_and_shadow(examples):
    mask = segment(decode(examples[0].sample))
    assert 200 < mask.sum() < 1200
    assert segment(np.full((64, 64, 3), 77, np.uint8)) is None
