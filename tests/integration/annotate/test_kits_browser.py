"""Ready-made labelings in a real browser: what an annotator sees and does comes back as the answer."""

import io
import uuid
import wave

import pytest
from PIL import Image
from playwright.sync_api import expect

from flywheel.annotate.backend import NewLabelingTask
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
from flywheel.records import Media, Sample

pytestmark = pytest.mark.integration

_SETTLED_MS, _DRAWN_MS = 700, 3_000
"""until the page knows what was done, and until a picture is drawn"""
TEXT = (
    "😀 Ann  met Bob 👩\u200d🚒\r\n"
    "in K\u00f6ln &amp; <script>1</script> <b>Rom</b>\n\n\t\u05e9\u05dc\u05d5\u05dd Eve"
)


def picture():
    buffer = io.BytesIO()
    Image.new("RGB", (400, 200), (200, 200, 200)).save(buffer, "PNG")
    return Sample.of(buffer.getvalue(), "image/png")


def recording():
    buffer = io.BytesIO()
    with wave.open(buffer, "wb") as sound:
        sound.setnchannels(1)
        sound.setsampwidth(2)
        sound.setframerate(8_000)
        sound.writeframes(bytes(16_000))
    return Sample.of(buffer.getvalue(), "audio/wav")


@pytest.fixture
def opened(studio, page):
    """Open a sample's labeling task with an answer in it; returns what submits and reads it."""

    def run(labeling, sample, answer):
        project = studio.ensure(f"kits {uuid.uuid4().hex[:8]}", labeling.config, None)
        data = dict(labeling.data(sample))
        for name, value in data.items():
            if isinstance(value, Media):
                file = f"{sample.id}-{name}.{value.media_type[-3:]}"
                data[name] = studio.publish(project.id, {file: value})[file]
        item = NewLabelingTask(
            key=sample.id,
            sample_id=sample.id,
            data=data,
            result=labeling.result(answer, sample),
            priority=0.5,
            num_annotators=1,
            shown={},
        )
        studio.push(project.id, [item])
        page.goto(f"{project.url}?labeling=1")
        expect(page.get_by_test_id("bottombar-submit-button")).to_be_visible(timeout=60_000)
        page.wait_for_timeout(_DRAWN_MS)

        def submit():
            page.wait_for_timeout(_SETTLED_MS)
            with page.expect_response(_is_answer):
                page.get_by_test_id("bottombar-submit-button").click()
            [found] = studio.changed_since(project.id, None)
            [annotation] = found.annotations
            return labeling.answer(annotation.result, sample)

        return submit

    return run


def _is_answer(response):
    return response.request.method == "POST" and "/annotations" in response.url


def press(page, key):
    page.keyboard.press(key)
    page.wait_for_timeout(_SETTLED_MS)


def test_a_choice_over_a_table_is_changed_by_its_key(opened, page):
    row = Sample.of(b'{"age": 51, "smokes": true, "more": [1], "none": null}', "application/json")
    submit = opened(choice(table(), ["low", "high"], question="Which risk?"), row, "low")
    expect(page.get_by_text("smokes")).to_be_visible()
    expect(page.get_by_text("true", exact=True)).to_be_visible()
    press(page, "2")
    assert submit() == "high"


def test_a_choice_over_a_recording_is_changed_by_its_key(opened, page):
    submit = opened(
        choice(audio(), ["voice", "noise"], question="What is it?"), recording(), "voice"
    )
    press(page, "2")
    assert submit() == "noise"


@pytest.mark.parametrize(
    ("labeling", "sample", "answer"),
    [
        (choices(html(), ["news", "shop"]), Sample.of(b"<h1>News</h1>", "text/html"), ["news"]),
        pytest.param(number(audio(), least=0, most=9), recording(), 3, marks=pytest.mark.long),
        (free_text(image(), lines=2), picture(), "two\nlines"),
        (keypoints(image(), ["eye"]), picture(), [{"label": "eye", "x": 100, "y": 50}]),
        (
            polygons(image(), ["leaf"]),
            picture(),
            [{"label": "leaf", "points": [[0, 0], [400, 0], [400, 200]]}],
        ),
    ],
    ids=["choices html", "number audio", "free text image", "keypoints", "polygons"],
)
def test_an_answer_that_an_annotator_leaves_as_it_is_comes_back(opened, labeling, sample, answer):
    assert opened(labeling, sample, answer)() == answer


def test_a_box_that_is_drawn_and_one_that_was_there_come_back_in_pixels(opened, page):
    there = {"label": "nut", "x": 40, "y": 20, "width": 80, "height": 60}
    submit = opened(boxes(image(), ["nut", "screw"]), picture(), [there])
    press(page, "2")
    canvas = page.locator(".konvajs-content canvas").first.bounding_box()
    scale = 750 / 400  # the width at which pictures are shown
    page.mouse.move(canvas["x"] + 200 * scale, canvas["y"] + 80 * scale)
    page.mouse.down()
    page.mouse.move(canvas["x"] + 300 * scale, canvas["y"] + 180 * scale, steps=8)
    page.mouse.up()
    kept, drawn = submit()
    assert kept == there
    assert drawn["label"] == "screw"
    places = [drawn[name] for name in ("x", "y", "width", "height")]
    assert places == pytest.approx([200, 80, 100, 100], abs=2.0)


def test_spans_are_where_they_were_in_characters_whatever_the_text_has(opened, page):
    places = [(TEXT.index(name), name) for name in ("Ann", "Bob", "K\u00f6ln", "Rom", "Eve")]
    there = [{"start": at, "end": at + len(name), "label": "name"} for at, name in places]
    submit = opened(spans(text(), ["name", "verb"]), Sample.of(TEXT.encode(), "text/plain"), there)
    press(page, "2")
    page.get_by_text("met").first.dblclick()
    found = submit()
    assert [one for one in found if one["label"] == "name"] == there
    [marked] = [one for one in found if one["label"] == "verb"]
    assert TEXT[marked["start"] : marked["end"]] == "met"
