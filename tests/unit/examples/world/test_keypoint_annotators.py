"""People mark what they can see, nearly right; mistakes come as often as is said."""

import numpy as np
import pytest

from flywheel.errors import AnnotationError
from flywheel.examples.pose.labeling import agree, hidden_points, pose_labeling
from flywheel.examples.pose.part import EXAMPLE_PART, load_part
from flywheel.examples.pose.posing import angle_deg, project, read_pose
from flywheel.examples.pose.start import start_examples
from flywheel.examples.pose.world import marking_hand, placed_keypoints, submitted
from flywheel.examples.traffic import Arrival


@pytest.fixture(scope="module")
def part():
    return load_part(EXAMPLE_PART)


@pytest.fixture(scope="module")
def examples(part):
    return list(start_examples(part, 20, 0))


def pixels_of(part, truth):
    pose = read_pose(truth)
    points = pose.transform(np.array(list(part.keypoints.values())))
    return dict(zip(part.keypoints, project(points, pose.camera), strict=True))


def marks_of(part, truth, seed=0, *, skill_px=0.7, error_rate=0.0, seen=None):
    rng = np.random.default_rng(seed)
    return placed_keypoints(part, truth, rng, skill_px=skill_px, error_rate=error_rate, seen=seen)


def gaps(part, truth, marks):
    true = pixels_of(part, truth)
    return {name: np.hypot(*(np.array(mark[:2]) - true[name])) for name, mark in marks.items()}


def test_without_noise_marks_are_where_the_keypoints_are(part, examples):
    for example in examples:
        marks = marks_of(part, example.answer, skill_px=0.0)
        assert max(gaps(part, example.answer, marks).values()) < 1e-9


def test_visible_marks_have_the_skill_and_hidden_ones_a_third_of_it(part, examples):
    found = {True: [], False: []}
    for seed in range(10):
        for number, example in enumerate(examples):
            marks = marks_of(part, example.answer, (seed, number))
            distances = gaps(part, example.answer, marks)
            for name, mark in marks.items():
                found[mark.is_visible].append(distances[name])
    rms = {key: np.sqrt(np.mean(np.square(value)) / 2) for key, value in found.items()}
    assert rms[True] == pytest.approx(0.7, rel=0.1)
    assert rms[False] == pytest.approx(2.1, rel=0.25)


def test_what_the_part_hides_is_marked_hidden_or_left_out(part, examples):
    for example in examples:
        hidden = hidden_points(part, read_pose(example.answer))
        marks = marks_of(part, example.answer)
        for name, is_hidden in zip(part.keypoints, hidden, strict=True):
            assert is_hidden or name in marks
            assert name not in marks or marks[name].is_visible != is_hidden


def test_what_is_seen_can_be_said(part, examples):
    names = list(part.keypoints)[:4]
    marks = marks_of(part, examples[0].answer, seen=names)
    assert {name for name, mark in marks.items() if mark.is_visible} == set(names)


def test_a_picture_in_which_almost_nothing_is_seen_is_unusable(part, examples):
    names = list(part.keypoints)[:2]
    assert marks_of(part, examples[0].answer, seen=names) == {}


def test_one_generator_gives_one_set_of_marks(part, examples):
    one, two = (marks_of(part, examples[0].answer, 5, error_rate=0.5) for _ in range(2))
    assert one == two


def test_mistakes_come_as_often_as_is_said_and_move_one_or_two_points(part, examples):
    moved = []
    for seed in range(20):
        for number, example in enumerate(examples):
            seeds = (seed, number)
            marks = marks_of(part, example.answer, seeds, skill_px=0.0, error_rate=0.3)
            moved.append(sum(gap > 1 for gap in gaps(part, example.answer, marks).values()))
    assert np.mean(np.array(moved) > 0) == pytest.approx(0.3, abs=0.06)
    assert set(moved) == {0, 1, 2}


def test_what_is_submitted_reads_back_as_nearly_the_true_pose(part, examples):
    labeling = pose_labeling(part)
    angles = []
    for example in examples:
        result = submitted(marks_of(part, example.answer, skill_px=0.4))
        found = read_pose(labeling.answer(result, example.sample))
        angles.append(angle_deg(found.rotation, read_pose(example.answer).rotation))
    assert np.median(angles) < 4


def test_an_unusable_picture_is_submitted_as_such(part, examples):
    with pytest.raises(AnnotationError, match="unusable"):
        pose_labeling(part).answer(submitted({}), examples[0].sample)


def test_marks_stay_inside_of_the_picture(part, examples):
    for seed in range(50):
        marks = marks_of(part, examples[0].answer, seed, skill_px=30.0)
        places = np.array([mark[:2] for mark in marks.values()])
        assert places.min() >= -0.5
        assert places.max() <= 63.5


@pytest.fixture
def hand(part, examples):
    """Marks the first example, whatever it is asked for."""
    example = examples[0]
    sample = example.sample
    arrival = Arrival(
        payload=sample.payload,
        media_type=sample.media_type,
        metadata=sample.metadata,
        truth=example.answer,
    )
    return marking_hand(lambda name: arrival if name == sample.id else None, part, 0.4)


def test_a_hand_marks_what_arrived_and_nothing_else(part, examples, hand):
    sample, rng = examples[0].sample, np.random.default_rng(0)
    found = pose_labeling(part).answer(hand(sample.id, False, rng), sample)
    assert agree(part, found, examples[0].answer)
    assert hand("another", False, rng) is None


def test_a_hand_that_errs_gets_a_message_on_what_looks_wrong(part, examples, hand):
    sample, reported = examples[0].sample, 0
    for seed in range(10):
        result = hand(sample.id, True, np.random.default_rng(seed))
        try:
            pose_labeling(part).answer(result, sample)
        except AnnotationError:
            reported += 1
    assert reported >= 8
