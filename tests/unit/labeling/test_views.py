"""What annotators see of a sample, and which samples cannot be shown."""

import io
from functools import partial

import pytest
from PIL import Image

from flywheel.errors import PayloadError
from flywheel.labeling import audio, choice, free_text, html, image, number, table, text
from flywheel.media import check_fit, check_shown
from flywheel.pictures import open_picture
from flywheel.records import Media, Sample


def saved(kind="PNG", **options):
    buffer = io.BytesIO()
    Image.new("L", (30, 20)).save(buffer, kind, **options)
    return buffer.getvalue()


@pytest.mark.parametrize(("kind", "media_type"), [("PNG", "image/png"), ("JPEG", "image/jpeg")])
def test_a_picture_is_shown_as_it_was_sent(kind, media_type):
    payload = saved(kind)
    assert image().data(Sample.of(payload, "image/x")) == {"image": Media(payload, media_type)}


def test_a_photograph_is_sent_upright():
    turned = Image.Exif()
    turned[0x0112] = 6
    shown = image().data(Sample.of(saved("JPEG", exif=turned), "image/jpeg"))["image"]
    assert shown.media_type == "image/png"
    assert open_picture(shown.payload).size == (20, 30)


def test_another_picture_may_stand_for_it():
    shown = image(picture=lambda sample: saved())
    assert shown.data(Sample.of(b"raw", "x/y")) == {"image": Media(saved(), "image/png")}


@pytest.mark.parametrize(
    ("shown", "payload", "said"),
    [
        (image(), b"GIF89a", "Send a whole PNG or JPEG file"),
        (text(), b"", "with 0 characters cannot be shown"),
        (text(), b" \n", "not only spaces"),
        (text(), b"\xff\xfe", "are no text"),
        (text(), b"a\0b", "without NUL"),
        (html(), b"x" * 100_001, "with 100,001 characters"),
        (text(most_characters=3), b"abcd", "Send 1 to 3 characters"),
        (audio(), b"RIFF", "'x/y' is no recording. Send its media type"),
        (table(), b"[1]", "its JSON is a list. Send one object"),
        (table(), b"{", "are no JSON"),
        (table(), b"{}", "its fields are none"),
        (table(), b'{"a": NaN}', "NaN is not JSON"),
        (table(), b'{"a": "\\ud800"}', "are no JSON"),
        (table(), b'{"a": "\\u0000"}', "without NUL"),
        (table(), b'{"a": "%s"}' % (b"x" * 100_001), "a table of 100,001 characters"),
        (table(), b"[" * 100_000, "are no JSON"),
        (table(["b"]), b'{"a": 1}', "its fields are a, of which nothing is shown. Send b"),
    ],
)
def test_what_cannot_be_shown_is_named_in_two_sentences(shown, payload, said):
    sample = Sample.of(payload, "x/y")
    with pytest.raises(PayloadError, match=said) as caught:
        shown.data(sample)
    assert str(caught.value).startswith(f"sample {sample.id[:12]}: ")


@pytest.mark.parametrize(
    ("shown", "payload"),
    [
        (image(), saved()),
        (text(), b"a"),
        (table(), b'{"a": 1}'),
        (audio(), b"RIFF    WAVE"),
        (html(), b"<p>a</p>"),
    ],
)
def test_what_is_shown_fits_its_tag_and_can_be_published(shown, payload):
    labeling, sample = choice(shown, ["a"]), Sample.of(payload, "audio/wav")
    check_fit(labeling.config, labeling.data(sample))
    check_shown(labeling.data(sample))


def test_text_is_shown_character_by_character():
    said = " 😀 a\r\n\t\u05e9\u05dc\u05d5\u05dd\ufeff "
    assert text().data(Sample.of(said.encode(), "text/plain")) == {"text": said}


def test_a_table_shows_every_value_as_text_by_the_names_of_its_fields():
    row = b'{"none": null, "is": true, "list": [1, "\\u00e9"], "large": 12345678901234567890}'
    shown = table().data(Sample.of(row, "application/json"))["table"]
    assert [one["Value"] for one in shown] == ["true", "12345678901234567890", '[1, "é"]', ""]
    assert table(["is", "gone"]).data(Sample.of(row, "application/json")) == {
        "table": [{"Name": "is", "Value": "true"}, {"Name": "gone", "Value": ""}]
    }


def test_a_recording_is_played_as_it_was_sent():
    sample = Sample.of(b"RIFF", "audio/wav")
    assert audio().data(sample) == {"audio": Media(b"RIFF", "audio/wav")}


TWO = table(["age", "city"], numbers=["age"])


@pytest.mark.parametrize(
    "payload", [b'{"age": 1, "city": "a", "id": 7}', b'{"age": null, "city": 2}']
)
def test_a_row_with_every_field_is_accepted_null_and_further_fields_too(payload):
    TWO.accepts(Sample.of(payload, "application/json"))


@pytest.mark.parametrize(
    ("shown", "payload", "said"),
    [
        (TWO, b'{"age": 1}', "the row has no 'city'. Send every field, null where"),
        (TWO, b'{"Age": 1, "city": "a"}', "the row has no 'age'"),
        (TWO, b'{"age": "1", "city": "a"}', "'age' is \"1\", which is no number. Send a number"),
        (TWO, b'{"age": true, "city": "a"}', "'age' is true, which is no number"),
        (TWO, b"[]", "its JSON is a list"),
        (table(list("abcdefgh")), b'{"a": 1}', "no 'b', 'c', 'd', 'e', 'f' and 2 more"),
        (table(["a"], required=["b"]), b'{"a": 1}', "the row has no 'b'"),
    ],
)
def test_a_row_with_other_fields_is_refused_by_their_names(shown, payload, said):
    with pytest.raises(PayloadError, match=said):
        shown.accepts(Sample.of(payload, "application/json"))


def test_a_table_of_any_fields_accepts_every_row():
    assert table().accepts is None
    assert table(["a"], required=[]).accepts is None


@pytest.mark.parametrize("kit", [partial(choice, choices=["a", "b"]), number, free_text])
def test_a_labeling_accepts_what_is_shown_accepts(kit):
    with pytest.raises(PayloadError, match="no 'age'"):
        kit(TWO).accepts(Sample.of(b"{}", "application/json"))
