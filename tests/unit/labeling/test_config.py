"""The XML of ready-made labelings: valid for Label Studio, whatever names users give."""

import itertools
import re
from xml.etree import ElementTree as ET

import pytest
from label_studio_sdk.label_interface import LabelInterface

from flywheel.errors import TaskError
from flywheel.labeling import (
    audio,
    boxes,
    choice,
    choices,
    free_text,
    html,
    image,
    keypoints,
    number,
    polygons,
    spans,
    table,
    text,
)
from flywheel.media import names_in

HOSTILE = ['a "quoted" <name> & more', "it's", 'name="x" toName="y"', "Ψ 😀", "50 %", "$", "$ 5"]
SHOWN = [image, text, table, audio, html]


def named():
    for show, can_be_unusable in itertools.product(SHOWN, [True, False]):
        shown = show(unusable=can_be_unusable)
        yield choice(shown, HOSTILE, question='Which "one" & why?')
        yield choices(shown, HOSTILE)
    for mark in (boxes, keypoints, polygons):
        yield mark(image(), HOSTILE, question="Where?")
    yield spans(text(), HOSTILE)


def entries():
    for show, can_be_unusable in itertools.product(SHOWN, [True, False]):
        yield number(show(unusable=can_be_unusable), least=-0.5, most=5)
        yield free_text(show(unusable=can_be_unusable), lines=4)


@pytest.mark.parametrize("labeling", [*named(), *entries()])
def test_label_studio_accepts_every_pair(labeling):
    LabelInterface(labeling.config).validate()
    assert list(names_in(labeling.config)) in [[show().kind] for show in SHOWN]
    assert not re.search(r"=\s*'", labeling.config)


@pytest.mark.parametrize("labeling", [*named()])
def test_names_with_quotes_and_marks_reach_annotators_as_they_are(labeling):
    values = [node.get("value") for node in ET.fromstring(labeling.config).iter()]
    assert set(HOSTILE) <= set(values)


@pytest.mark.parametrize(
    ("names", "said"),
    [
        ([], "Give a list of names"),
        ("cat", "Give a list of names"),
        (["cat", "cat"], "'cat' twice"),
        (["cat", ""], "does not show as it is"),
        ([" cat"], "does not show as it is"),
        (["a\nb"], "does not show as it is"),
        (["a\0"], "does not show as it is"),
        (["\ud800"], "does not show as it is"),
        (["$price"], "does not show as it is"),
        (["a", 3], "does not show as it is"),
        (["a", "unusable"], "which annotators choose for a sample that gets no label"),
    ],
)
def test_names_that_annotators_would_see_otherwise_are_refused_at_once(names, said):
    for make in (choice, choices, boxes):
        with pytest.raises(TaskError, match=said) as caught:
            make(image(), names)
        assert re.search(r"\. [A-Z]", str(caught.value))


def test_unusable_may_be_a_class_where_nothing_else_says_so():
    assert choice(image(unusable=False), ["fine", "unusable"])


@pytest.mark.parametrize(
    "make",
    [
        lambda: boxes(text(), ["a"]),
        lambda: spans(image(), ["a"]),
        lambda: boxes(image(), ["a"], iou=0),
        lambda: spans(text(), ["a"], share=1.5),
        lambda: keypoints(image(), ["a"], within_pixels=0),
        lambda: number(text(), least=3, most=3),
        lambda: number(text(), within=-1),
        lambda: choice(text(), ["a"], question="How\nmany?"),
    ],
)
def test_what_cannot_be_asked_ends_in_two_sentences(make):
    with pytest.raises(TaskError, match=r"\. (Give|Write) "):
        make()


def keys(labeling):
    return {n.get("value"): n.get("hotkey") for n in ET.fromstring(labeling.config).iter("Choice")}


def test_digits_are_their_own_keys_and_other_names_have_digits_in_their_order():
    assert keys(choice(image(unusable=False), ["0", "7"])) == {"0": "0", "7": "7"}
    assert keys(choice(image(), ["cat", "dog"])) == {"cat": "1", "dog": "2", "unusable": "u"}
    many = keys(choice(text(), [f"class {number}" for number in range(30)]))
    assert [*many.values()][:11] == [*"1234567890", None]


def test_only_pictures_and_recordings_can_be_unusable_unless_it_is_asked_for():
    offered = [show().kind for show in SHOWN if "unusable" in choice(show(), ["a"]).config]
    assert offered == ["image", "audio"]
    assert "unusable" in choice(text(unusable=True), ["a"]).config
