"""A sample is shown by its kind: what a task draws, pictures, texts with spans, tables, sounds."""

import base64
import dataclasses
import io

import pytest
from PIL import Image

from flywheel.errors import TaskError
from flywheel.ledger.failures import failures_of_night
from flywheel.records import FailureState, Media, Sample, Verdict
from flywheel.report.kit.pages import _environment
from flywheel.report.kit.samples import _small, in_markdown, show_cases, show_sample


@pytest.fixture
def shown(story):
    """(drawing) -> the cases of a night whose first half got a label, by what the label is."""
    story.whole_night(1, Verdict.HOLD)

    def run(drawing):
        task = dataclasses.replace(story.loop.task, drawing=drawing)
        with story.loop.ledger.read() as connection:
            cases = failures_of_night(connection, 1, FailureState.SEEN, 24)
        return show_cases(dataclasses.replace(story.loop, task=task), cases, 50)

    return run


def colour_of(one):
    (part,) = one.parts
    data = base64.b64decode(part.uri.partition(",")[2])
    return Image.open(io.BytesIO(data)).convert("RGB").getpixel((0, 0))


def red_png():
    data = io.BytesIO()
    Image.new("RGB", (8, 8), "red").save(data, "PNG")
    return data.getvalue()


def test_a_task_that_draws_is_shown_answer_and_label(shown):
    given = []
    pictures = shown(lambda sample, *drawn: given.append((sample.id, *drawn)) or red_png())
    assert {colour_of(one) for one in pictures} == {(255, 0, 0)}
    expected = [
        (one.case.sample_id, one.case.answer, one.case.label and one.case.label.answer)
        for one in pictures
    ]
    assert given == expected
    assert "blue" in {label for *_, label in given}


def test_a_task_that_does_not_draw_shows_what_people_label(shown):
    assert (255, 0, 0) not in {colour_of(one) for one in shown(None)}


@pytest.mark.parametrize("error", [TaskError, KeyError, TypeError])
def test_an_answer_that_cannot_be_drawn_leaves_a_reason(shown, error):
    def drawing(sample, answer, label):
        raise error("no pose")

    assert all(not one.parts and "no pose" in one.fault for one in shown(drawing))


def test_a_picture_of_a_few_pixels_is_enlarged_so_that_they_are_seen():
    data = io.BytesIO()
    Image.new("L", (8, 6), 200).save(data, "PNG")
    uri = _small(data.getvalue(), 96)
    shown = Image.open(io.BytesIO(base64.b64decode(uri.partition(",")[2])))
    assert shown.size == (96, 72)


def parts(task, answer=None, **data):
    """What a page shows of a sample for which the task gives this data."""
    config = '<View><Text name="t" value="$text"/><HyperText name="h" value="$html"/></View>'
    labeling = dataclasses.replace(task.labeling, config=config, data=lambda _: data)
    task = dataclasses.replace(task, labeling=labeling)
    return show_sample(task, Sample.of(b"x", "text/plain"), answer, None, 50)


def html_of(shown):
    text = '{% import "parts.html" as parts %}{{ parts.sample(shown, "alt") }}'
    return _environment().from_string(text).render(shown=shown)


@pytest.fixture
def task(story):
    return story.loop.task


SPANS = [
    {"start": 3, "end": 8, "label": "place"},
    {"start": 3, "end": 5, "label": "overlaps"},
    {"start": 12, "end": 99, "label": "beyond"},
]


@pytest.mark.parametrize("answer", [SPANS, {"spans": SPANS}, SPANS[0]])
def test_spans_of_an_answer_are_marked_in_the_text(task, answer):
    (part,) = parts(task, answer, text="in Paris, 2026")
    assert [(one.text, one.mark) for one in part.pieces] == [
        ("in ", None),
        ("Paris", "place"),
        (", 2026", None),
    ]
    assert '<mark title="place">Paris</mark>, 2026' in html_of([part])
    assert in_markdown([part], "") == "in **Paris** (place) , 2026"


def test_spans_are_not_marked_in_html_whose_characters_a_browser_counts(task):
    (part,) = parts(task, SPANS, html="in Paris")
    assert [one.mark for one in part.pieces] == [None]


@pytest.mark.parametrize("length", [10, 299, 300, 301, 1_000_000])
def test_a_long_text_is_cut(task, length):
    (part,) = parts(task, text="a" * length)
    shown = "".join(one.text for one in part.pieces)
    assert (len(shown), shown.endswith("…")) == (min(length, 301), length > 300)


def test_a_long_text_is_cut_around_its_first_span(task):
    text = f"{'a' * 5_000} Paris {'b' * 5_000}"
    (part,) = parts(task, {"start": 5_001, "end": 5_006, "label": "place"}, text=text)
    shown = "".join(one.text for one in part.pieces)
    assert ("Paris", "place") in part.pieces
    assert len(shown) < 350
    assert shown.startswith("…")


def test_all_that_comes_from_outside_is_escaped(task):
    evil = "<script>alert(1)</script>"
    shown = parts(
        task, {"start": 0, "end": 8, "label": evil}, text=evil, html=evil, record={evil: evil}
    )
    for page in (html_of(shown), in_markdown(shown, evil)):
        assert "<script" not in page
        assert "|" not in page


def test_an_object_is_a_table_of_its_first_fields(task):
    (part,) = parts(task, record={f"f{number}": [number] * 99 for number in range(20)})
    assert part.kind == "table"
    assert part.rows[-1] == ("…", "12 more")
    assert all(len(value) <= 80 for _, value in part.rows)
    assert '<th scope="row">f0</th>' in html_of([part])


def test_rows_of_two_fields_are_shown_as_they_are_given(task):
    (part,) = parts(task, table=[{"Name": "smokes", "Value": "true"}, {"Name": "age", "Value": ""}])
    assert part.rows == (("smokes", "true"), ("age", ""))


@pytest.mark.parametrize(
    ("payload", "media_type", "kind", "words"),
    [
        (b"RIFF", "audio/x-wav", "audio", 'src="data:audio/wav;base64,UklGRg=="'),
        (b"R" * 100_001, "audio/wav", "note", "sound: audio/wav, 100.0 kB"),
        (b"%PDF-1", "application/pdf", "note", "application/pdf, 0.0 kB"),
        (b"<b>A</b> &amp; B", "text/html", "text", " A  &amp; B"),
        (b"caf\xc3\xa9", "text/plain", "text", "café"),
        (b"?", "application/x-odd", "note", "application/x-odd"),
    ],
)
def test_media_are_shown_by_their_kind_or_by_type_and_size(task, payload, media_type, kind, words):
    (part,) = parts(task, sound=Media(payload, media_type))
    assert part.kind == kind
    assert words in html_of([part])
    assert len(in_markdown([part], "alt")) < 200


def test_values_that_are_no_text_are_shown_as_json(task):
    shown = parts(task, number=3.5, nothing=None, empty=[])
    assert [one.pieces[0].text for one in shown] == ["number: 3.5", "nothing: null", "empty: []"]


def test_of_many_values_the_first_are_shown(task):
    assert len(parts(task, **{f"v{number}": "a" for number in range(9)})) == 3
