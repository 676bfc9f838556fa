"""What people mark becomes a pose, what a model answers becomes marks, and slips are reported plainly."""

import copy
import re
from dataclasses import replace
from xml.etree import ElementTree as ET

import numpy as np
import pytest
from label_studio_sdk.label_interface import LabelInterface

from flywheel.errors import AnnotationError
from flywheel.examples.pose.labeling import agree, hidden_points, pose_labeling
from flywheel.examples.pose.posing import encode, read_pose, write_pose
from flywheel.records import Sample


@pytest.fixture(scope="module")
def labeling(part):
    return pose_labeling(part)


@pytest.fixture(scope="module")
def answer(make_pose):
    return write_pose(make_pose((160.0, 30.0, 20.0), (0.01, -0.02, 0.25)))


@pytest.fixture(scope="module")
def sample(camera):
    payload = encode(np.full((64, 64, 3), 90, np.uint8))
    return Sample.of(payload, "image/png", {"camera": camera.values})


@pytest.fixture
def marks(labeling, answer, sample):
    return copy.deepcopy(labeling.result(answer, sample))


def _marks_of(result):
    return {r["value"]["keypointlabels"][0]: r for r in result if r["from_name"] == "keypoint"}


def _visible(result):
    return [region for region in result if region["from_name"] == "keypoint"]


def _refusal(labeling, result, sample):
    with pytest.raises(AnnotationError) as caught:
        labeling.answer(result, sample)
    message = str(caught.value)
    assert "\n" not in message
    return message


def test_a_pose_comes_back_as_it_went(part, labeling, answer, sample):
    back = labeling.answer(labeling.result(answer, sample), sample)
    assert agree(part, back, answer)
    np.testing.assert_allclose(back["position_m"], answer["position_m"], atol=1e-6)
    np.testing.assert_allclose(back["rotation"], answer["rotation"], atol=1e-6)


def test_a_mark_in_the_middle_of_a_pixel_is_at_its_centre(part, labeling, sample, make_pose):
    name = next(iter(part.keypoints))
    pose = make_pose(position_m=np.array([0.0, 0.0, 0.4]) - part.keypoints[name])
    region = _marks_of(labeling.result(write_pose(pose), sample))[name]
    assert region["value"]["x"] == pytest.approx((31.5 + 0.5) / 64 * 100)
    assert region["value"]["y"] == pytest.approx((30.0 + 0.5) / 64 * 100)


def test_label_studio_accepts_the_config_and_the_marks(part, labeling, answer, sample):
    interface = LabelInterface(labeling.config)
    interface.validate()
    prediction = {"model_version": "m", "score": 0.5, "result": labeling.result(answer, sample)}
    assert interface.validate_prediction(prediction, return_errors=True) == []


def test_every_keypoint_has_a_label_of_its_own_colour(part, labeling):
    labels = list(ET.fromstring(labeling.config).iter("Label"))
    assert [label.get("value") for label in labels] == list(part.keypoints)
    colours = {label.get("background") for label in labels}
    assert len(colours) == len(labels)
    assert all(re.fullmatch("#[0-9a-f]{6}", colour) for colour in colours)


def test_keypoints_outside_of_the_picture_are_left_out(part, labeling, sample, make_pose):
    found = labeling.result(write_pose(make_pose(position_m=(0.12, 0.0, 0.3))), sample)
    assert 0 < len(_marks_of(found)) < len(part.keypoints)
    assert labeling.result(write_pose(make_pose(position_m=(0.0, 0.0, -0.5))), sample) == []


def test_keypoints_behind_the_part_are_marked_hidden(part, labeling, sample, make_pose):
    from_above = make_pose((180.0, 0.0, 0.0), (0.0, 0.0, 0.4))
    is_hidden = dict(zip(part.keypoints, hidden_points(part, from_above), strict=True))
    assert not is_hidden["boss_top"]
    from_below = make_pose((0.0, 0.0, 0.0), (0.0, 0.0, 0.4))
    is_hidden = dict(zip(part.keypoints, hidden_points(part, from_below), strict=True))
    assert is_hidden["boss_top"]
    assert not is_hidden["heel_right"]
    result = labeling.result(write_pose(from_below), sample)
    assert "boss_top" in {r["id"] for r in result if r["from_name"] == "visibility"}


def test_hidden_marks_count_for_less(labeling, answer, marks, sample):
    seen = _visible(marks)
    hidden = [
        {**r, "from_name": "visibility", "value": {"choices": ["hidden"]}} for r in _visible(marks)
    ]
    unsure, sure = labeling.answer(seen + hidden, sample), labeling.answer(seen, sample)
    assert unsure["std_deg"] == pytest.approx(2.5 / 0.85 * sure["std_deg"], rel=0.05)


def test_marks_of_several_regions_and_unknown_extras_are_read(
    part, labeling, answer, marks, sample
):
    extra = {"id": "x", "from_name": "usable", "type": "choices", "value": {"choices": []}}
    assert agree(part, labeling.answer([*marks, extra], sample), answer)


def test_unusable_gives_no_label(labeling, marks, sample):
    unusable = {"id": "u", "from_name": "usable", "value": {"choices": ["unusable"]}}
    assert "says 'unusable'" in _refusal(labeling, [*marks, unusable], sample)


@pytest.mark.parametrize("count", [0, 1, 3])
def test_fewer_than_four_marks_are_refused(labeling, marks, sample, count):
    message = _refusal(labeling, _visible(marks)[:count], sample)
    assert f"{count} points; a pose needs at least 4" in message


def test_a_name_twice_is_refused(labeling, marks, sample):
    twice = {**_marks_of(marks)["notch"], "id": "again"}
    assert "marks 'notch' twice" in _refusal(labeling, [*marks, twice], sample)


def test_an_unknown_name_is_refused_with_the_known_ones(labeling, marks, sample):
    _marks_of(marks)["notch"]["value"]["keypointlabels"] = ["nose"]
    message = _refusal(labeling, marks, sample)
    assert "'nose'" in message
    assert "boss_top" in message


def test_marks_on_a_line_are_refused(part, sample):
    places = [[0.01 * k, 0.0, 0.0] for k in range(5)]
    keypoints = {f"p{k}": np.array(place) for k, place in enumerate(places)}
    labeling = pose_labeling(replace(part, keypoints=keypoints))
    regions = [
        {"id": n, "from_name": "keypoint", "value": {"x": 9.0 * k, "y": 9, "keypointlabels": [n]}}
        for k, n in enumerate(keypoints)
    ]
    assert "lie on a line" in _refusal(labeling, regions, sample)


def test_swapped_names_are_reported(labeling, marks, sample):
    toe, heel = _marks_of(marks)["toe_right"], _marks_of(marks)["heel_right"]
    toe["value"]["keypointlabels"], heel["value"]["keypointlabels"] = ["heel_right"], ["toe_right"]
    message = _refusal(labeling, marks, sample)
    assert re.match(r"'toe_right' and 'heel_right' look swapped: residual [\d.]+ px", message)


def test_a_misplaced_mark_is_reported(labeling, marks, sample):
    value = _marks_of(marks)["boss_top"]["value"]
    value["x"] = 95.0 if value["x"] < 50 else 5.0
    assert re.match(r"'boss_top' lies \d+ px from where", _refusal(labeling, marks, sample))


@pytest.mark.parametrize("place", [{"x": -1.0}, {"y": 101.0}, {"x": None}, {"y": float("nan")}])
def test_a_mark_outside_of_the_picture_is_refused(labeling, marks, sample, place):
    _marks_of(marks)["notch"]["value"].update(place)
    assert "'notch' at x, y" in _refusal(labeling, marks, sample)


def test_a_turned_picture_is_refused(labeling, marks, sample):
    marks[0]["image_rotation"] = 90
    assert "turned by 90 degrees" in _refusal(labeling, marks, sample)


def test_the_marks_of_a_careful_person_are_about_as_unsure_as_they_say(
    labeling, answer, marks, sample
):
    rng, errors = np.random.default_rng(0), []
    for _ in range(40):
        noisy = copy.deepcopy(_visible(marks))
        for region in noisy:
            region["value"]["x"] += rng.normal(0, 0.85 * 100 / 64)
            region["value"]["y"] += rng.normal(0, 0.85 * 100 / 64)
        found, true = read_pose(labeling.answer(noisy, sample)), read_pose(answer)
        errors.append(np.linalg.norm(found.position_m - true.position_m) * 100 / found.std_cm)
    assert np.sqrt(np.mean(np.square(errors))) == pytest.approx(1.0, abs=0.35)
