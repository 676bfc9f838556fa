"""What every ready-made labeling keeps, for any answer that a model can give."""

import io

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from flywheel.annotate.label_studio.client import misfits
from flywheel.labeling import (
    boxes,
    choice,
    choices,
    free_text,
    image,
    keypoints,
    number,
    polygons,
    spans,
    table,
    text,
)
from flywheel.records import Sample, canonical, same_json

WIDTH, HEIGHT = 320, 200
TEXT = "😀 Ann  met Bob 👩‍🚒\r\nin Köln &amp; <b>Rom</b>\n\n\t\u05e9\u05dc\u05d5\u05dd Eve"
LABELS = ["nut", 'a "screw" & <bolt>', "Ψ"]
LABEL = st.sampled_from(LABELS)


def _picture():
    buffer = io.BytesIO()
    Image.new("RGB", (WIDTH, HEIGHT)).save(buffer, "PNG")
    return Sample.of(buffer.getvalue(), "image/png")


PICTURE, WORDS = _picture(), Sample.of(TEXT.encode(), "text/plain")
ROW = Sample.of(b'{"age": 51}', "application/json")


@st.composite
def _box(draw):
    x, y = draw(st.floats(0, WIDTH - 1)), draw(st.floats(0, HEIGHT - 1))
    size = {"width": draw(st.floats(1, WIDTH - x)), "height": draw(st.floats(1, HEIGHT - y))}
    return {"label": draw(LABEL), "x": x, "y": y, **size}


@st.composite
def _point(draw):
    return {"label": draw(LABEL), "x": draw(st.floats(0, WIDTH)), "y": draw(st.floats(0, HEIGHT))}


@st.composite
def _polygon(draw):
    """A box with a corner moved, so that it is never a line."""
    x, y = draw(st.integers(0, WIDTH - 40)), draw(st.integers(0, HEIGHT - 40))
    far = [x + draw(st.floats(20, 40)), y + draw(st.floats(20, 40))]
    return {"label": draw(LABEL), "points": [[x, y], [x + 20, y], far, [x, y + 20]]}


@st.composite
def _span(draw):
    start = draw(st.integers(0, len(TEXT) - 1))
    return {"start": start, "end": draw(st.integers(start + 1, len(TEXT))), "label": draw(LABEL)}


def _lists(element):
    return st.lists(element, max_size=6)


_FREE = st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1).filter(str.strip)
KITS = {
    "choice": (choice(text(), LABELS), WORDS, LABEL),
    "choices": (choices(table(), LABELS), ROW, st.lists(LABEL, unique=True)),
    "required choices": (choices(text(), LABELS, required=True), WORDS, st.just(["nut"])),
    "boxes": (boxes(image(), LABELS), PICTURE, _lists(_box())),
    "keypoints": (keypoints(image(), LABELS), PICTURE, _lists(_point())),
    "polygons": (polygons(image(), LABELS), PICTURE, _lists(_polygon())),
    "spans": (spans(text(), LABELS), WORDS, _lists(_span())),
    "number": (number(image(), least=0, most=9, within=0.5), PICTURE, st.floats(0, 9)),
    "count": (number(table()), ROW, st.integers(-(2**50), 2**50)),
    "free text": (free_text(text(), lines=3), WORDS, _FREE),
    "any text": (free_text(image(), required=False), PICTURE, _FREE | st.just("")),
}
JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=3),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["label", "x", "y", "start", "end", "points"]), inner)
    ),
    max_leaves=6,
)
EVERY = pytest.mark.parametrize("name", KITS)


def agrees(labeling, one, other):
    return (labeling.agree or same_json)(one, other)


@EVERY
@given(data=st.data())
def test_an_answer_comes_back_from_label_studio_as_one_that_agrees(name, data):
    labeling, sample, answers = KITS[name]
    answer = data.draw(answers)
    result = labeling.result(answer, sample)
    assert misfits(labeling.config, {"model_version": "m", "score": 0.5, "result": result}) == []
    assert len({region["id"] for region in result}) == len(result)
    back = labeling.answer(result, sample)
    assert agrees(labeling, back, answer)
    assert labeling.answer(labeling.result(back, sample), sample) == back


@EVERY
@given(data=st.data())
def test_an_answer_agrees_with_itself_and_two_both_ways_round(name, data):
    labeling, _, answers = KITS[name]
    one, other = data.draw(answers | JSON), data.draw(answers | JSON)
    assert agrees(labeling, one, one)
    assert agrees(labeling, one, other) == agrees(labeling, other, one)


@EVERY
@given(data=st.data(), number=st.integers(1, 5))
def test_what_stands_for_equal_answers_is_that_answer(name, data, number):
    labeling, _, answers = KITS[name]
    answer = data.draw(answers)
    merge = labeling.merge or (lambda some: some[0])
    assert merge([answer] * number) == answer


@pytest.mark.parametrize("name", ["boxes", "keypoints", "polygons", "spans"])
@given(data=st.data())
def test_what_stands_for_answers_that_differ_can_be_shown_again(name, data):
    labeling, sample, answers = KITS[name]
    merged = labeling.merge(data.draw(st.lists(answers, min_size=1, max_size=4)))
    canonical(merged)
    assert agrees(labeling, labeling.answer(labeling.result(merged, sample), sample), merged)


@EVERY
def test_nothing_is_an_answer_only_where_it_is_stated(name):
    labeling, sample, _ = KITS[name]
    if labeling.empty_is_answer:
        assert not labeling.answer([], sample)
    else:
        with pytest.raises(Exception, match="an annotation has"):
            labeling.answer([], sample)
