"""What an annotator did that is no answer is refused, in two sentences: what is wrong, what to do."""

import io
import re

import pytest
from PIL import Image

from flywheel.errors import AnnotationError
from flywheel.labeling import (
    audio,
    boxes,
    choice,
    choices,
    free_text,
    image,
    keypoints,
    number,
    polygons,
    spans,
    text,
)
from flywheel.records import Sample


def picture(width=200, height=100):
    buffer = io.BytesIO()
    Image.new("RGB", (width, height)).save(buffer, "PNG")
    return Sample.of(buffer.getvalue(), "image/png")


WORDS = Sample.of("😀 Ann met Bob".encode(), "text/plain")
KITS = {
    "choice": (choice(text(unusable=True), ["a", "b"]), WORDS),
    "choices": (choices(image(), ["a", "b"], required=True), picture()),
    "boxes": (boxes(image(), ["a", "b"]), picture()),
    "keypoints": (keypoints(image(), ["a", "b"]), picture()),
    "polygons": (polygons(image(), ["a", "b"]), picture()),
    "spans": (spans(text(unusable=True), ["a", "b"]), WORDS),
    "number": (number(image(), least=0, most=9), picture()),
    "words": (free_text(audio()), Sample.of(b"RIFF", "audio/wav")),
}
TAGS = {
    "boxes": "rectanglelabels",
    "keypoints": "keypointlabels",
    "polygons": "polygonlabels",
    "spans": "labels",
}
SQUARE = {"x": 10, "y": 10, "width": 10, "height": 10}


def region(control, **value):
    return {"from_name": control, "value": value}


def mark(control, *labels, **value):
    return region(control, **{TAGS[control]: list(labels)}, **value)


NONE = [
    ("choice", [], "Choose exactly one of a, b"),
    ("choice", [region("choice", choices=["a", "b"])], "Choose exactly one of a, b"),
    ("choice", [region("choice", choices=["c"])], "Choose exactly one of a, b"),
    ("choice", [region("choice")], "Choose exactly one of a, b"),
    ("choice", [{"from_name": "choice", "value": None}], "Choose exactly one of a, b"),
    ("choice", [region("choice", choices=["unusable"])], "A label would be one of a, b"),
    ("choices", [], "Choose one or more of a, b"),
    ("choices", [region("choices", choices=["a", ["b"]])], "Choose one or more of a, b"),
    ("choices", [region("choices", choices=["a", "unusable"])], "A label would be a list of a, b"),
    ("boxes", [mark("boxes", **SQUARE)], "a box named nothing. Name each one of a, b"),
    ("boxes", [mark("boxes", "a", "b", **SQUARE)], "named 'a', 'b'. Name each one of a, b"),
    ("boxes", [mark("boxes", "c", **SQUARE)], "named 'c'. Name each one of a, b"),
    ("boxes", [mark("boxes", "a", **SQUARE | {"x": None})], "a box 'a' whose x is None. Draw"),
    ("boxes", [mark("boxes", "a", **SQUARE | {"width": "1"})], "whose width is '1'. Draw it again"),
    ("boxes", [mark("boxes", "a", **SQUARE | {"width": 0})], "of 0 x 10 pixels. Draw it again"),
    ("boxes", [mark("boxes", "a", **SQUARE | {"height": -5})], "of 20 x -5 pixels. Draw it"),
    ("boxes", [mark("boxes", "a", **SQUARE, rotation=30)], "turned by 30 degrees. Draw it upright"),
    (
        "boxes",
        [mark("boxes", "a", **SQUARE | {"y": float("nan")})],
        "whose y is nan. Draw it again",
    ),
    ("keypoints", [mark("keypoints", "a", x=1)], "a keypoint 'a' whose y is None. Draw it again"),
    ("polygons", [mark("polygons", "a", points=[[1, 1], [2, 2]])], "of 2 points. Draw at least"),
    ("polygons", [mark("polygons", "a", points=[[1, 1], [2, 2], [3]])], "of 3 points. Draw at"),
    ("polygons", [mark("polygons", "a")], "of 0 points. Draw at least three"),
    ("spans", [mark("spans", "a", start=2)], "from 2 to None in a text of 13 characters. Mark it"),
    ("spans", [mark("spans", "a", start=2, end=14)], "from 2 to 14 in a text of 13 characters"),
    ("spans", [mark("spans", "a", start=5, end=5)], "from 5 to 5 in a text of 13 characters"),
    ("spans", [mark("spans", "a", start="2", end="5")], "from '2' to '5' in a text of 13"),
    ("number", [], r"the numbers []. Give a number of 0 to 9"),
    ("number", [region("number", number=10)], "the numbers [10]. Give a number of 0 to 9"),
    ("number", [region("number", number=True)], "the numbers [True]. Give a number of 0 to 9"),
    ("number", [region("number", number=1)] * 2, "the numbers [1, 1]. Give a number of 0 to 9"),
    ("words", [], "has 0 texts. Write one"),
    ("words", [region("words", text=[" "])], "has 0 texts. Write one"),
    ("words", [region("words", text=["a", "b"])], "has 2 texts. Write one"),
]


@pytest.mark.parametrize(("kit", "result", "said"), NONE)
def test_what_is_no_answer_is_refused_in_two_sentences(kit, result, said):
    labeling, sample = KITS[kit]
    with pytest.raises(AnnotationError, match=re.escape(said)) as caught:
        labeling.answer(result, sample)
    assert re.search(r"\. [A-Z]", str(caught.value))


@pytest.mark.parametrize("kit", ["boxes", "keypoints", "polygons", "spans", "number", "words"])
def test_what_an_annotator_calls_unusable_gets_no_label(kit):
    labeling, sample = KITS[kit]
    with pytest.raises(AnnotationError, match="an annotation says 'unusable', so"):
        labeling.answer([region("usable", choices=["unusable"])], sample)


@pytest.mark.parametrize(
    ("kit", "answer"),
    [
        ("choices", "a"),
        ("boxes", [{"label": "a", "x": 1, "y": 2}]),
        ("boxes", [{"label": "a", **SQUARE, "width": -1}]),
        ("boxes", {"label": "a"}),
        ("keypoints", [{"x": 1, "y": 2}]),
        ("polygons", [{"label": "a", "points": [[1, 1]]}]),
        ("spans", [{"label": "a", "start": 3, "end": 3}]),
        ("spans", [{"label": "a", "start": 3.0, "end": 4.0}]),
        ("number", float("inf")),
        ("words", 7),
    ],
)
def test_a_model_that_answers_otherwise_is_named(kit, answer):
    labeling, sample = KITS[kit]
    with pytest.raises(AnnotationError, match=r"\. Let the model answer with"):
        labeling.result(answer, sample)


def test_boxes_are_in_pixels_of_the_samples_picture_however_large_it_was_shown():
    shown = image(picture=lambda sample: picture(800, 400).payload)
    labeling = boxes(shown, ["a"])
    [found] = labeling.answer([mark("boxes", "a", x=25, y=10, width=50, height=40)], picture())
    assert found == {"label": "a", "x": 50.0, "y": 10.0, "width": 100.0, "height": 40.0}


def test_a_mark_that_slipped_over_the_edge_ends_there():
    labeling, sample = KITS["boxes"]
    [found] = labeling.answer([mark("boxes", "a", x=-1, y=90, width=21, height=10.5)], sample)
    assert found == {"label": "a", "x": 0.0, "y": 90.0, "width": 40.0, "height": 10.0}


@pytest.mark.parametrize(("confidence", "score"), [(0.25, 0.25), (1, 1), (1.5, None), ("x", None)])
def test_the_confidence_of_a_mark_is_the_score_by_which_regions_are_sorted(confidence, score):
    labeling, sample = KITS["boxes"]
    box = {"label": "a", "x": 0, "y": 0, "width": 9, "height": 9, "confidence": confidence}
    [region] = labeling.result([box], sample)
    assert region.get("score") == score


def test_marks_of_a_model_outside_of_the_picture_are_not_shown():
    labeling, sample = KITS["boxes"]
    over = {"label": "a", "x": 150, "y": -50, "width": 100, "height": 100}
    [region] = labeling.result([over, {**over, "x": 300}], sample)
    assert region["value"] == {
        "x": 75.0,
        "y": 0.0,
        "width": 25.0,
        "height": 50.0,
        "rotation": 0,
        "rectanglelabels": ["a"],
    }
    points, _ = KITS["keypoints"]
    assert points.result([{"label": "a", "x": 201, "y": 5}], sample) == []
    outlines, _ = KITS["polygons"]
    beyond = [[300, 10], [310, 10], [310, 20]]
    assert outlines.result([{"label": "a", "points": beyond}], sample) == []


def test_a_number_beyond_the_bounds_is_shown_as_the_nearest_that_can_be_given():
    labeling, sample = KITS["number"]
    assert labeling.answer(labeling.result(-0.3, sample), sample) == 0
    assert labeling.answer(labeling.result(12, sample), sample) == 9


def test_a_span_counts_an_emoji_as_one_character():
    labeling, sample = KITS["spans"]
    [found] = labeling.answer([mark("spans", "a", start=2, end=5, text="Ann")], sample)
    assert found == {"start": 2, "end": 5, "label": "a"}
    with pytest.raises(AnnotationError, match="'Ann', where the text has 'nn '"):
        labeling.answer([mark("spans", "a", start=3, end=6, text="Ann")], sample)


def test_spans_are_sorted_and_line_breaks_may_come_back_as_the_editor_writes_them():
    labeling = spans(text(), ["a"])
    sample = Sample.of(b"one\ntwo three", "text/plain")
    found = labeling.answer(
        [
            mark("spans", "a", start=8, end=13, text="three"),
            mark("spans", "a", start=0, end=7, text="one\\ntwo"),
        ],
        sample,
    )
    assert [(one["start"], one["end"]) for one in found] == [(0, 7), (8, 13)]


def test_a_label_that_the_task_no_longer_has_is_left_to_the_check_of_pre_annotations():
    """A class that was renamed since must not keep a sample out of labeling."""
    labeling, sample = KITS["boxes"]
    assert labeling.result([{"label": "old", **SQUARE}], sample)
    assert KITS["choice"][0].result("old", WORDS)
