"""What annotators see is what the config shows, of types that browsers show, and whole."""

import io
import struct
import wave
import zlib

import pytest
from PIL import Image

from flywheel.errors import PayloadError, TaskError
from flywheel.media import check_fit, check_shown, kind_of, names_in, type_of
from flywheel.records import Media


def saved(kind: str) -> bytes:
    buffer = io.BytesIO()
    Image.effect_noise((64, 64), 50).save(buffer, kind)
    return buffer.getvalue()


def sound() -> bytes:
    buffer = io.BytesIO()
    with wave.open(buffer, "wb") as file:
        file.setparams((1, 2, 8000, 0, "NONE", ""))
        file.writeframes(bytes(1600))
    return buffer.getvalue()


def huge_png() -> bytes:
    header = struct.pack(">IIBBBBB", 60_000, 60_000, 8, 0, 0, 0, 0)
    chunk = b"IHDR" + header
    size, check = struct.pack(">I", len(header)), struct.pack(">I", zlib.crc32(chunk))
    start = struct.pack(">I", 0) + b"IDAT" + struct.pack(">I", zlib.crc32(b"IDAT"))
    return b"\x89PNG\r\n\x1a\n" + size + chunk + check + start


WHOLE = {
    "image/png": saved("PNG"),
    "image/jpeg": saved("JPEG"),
    "image/gif": saved("GIF"),
    "image/webp": saved("WEBP"),
    "audio/wav": sound(),
    "audio/mpeg": b"ID3\x04" + bytes(64),
    "audio/ogg": b"OggS" + bytes(64),
    "audio/flac": b"fLaC" + bytes(64),
    "audio/mp4": b"\0\0\0\x20ftypM4A " + bytes(64),
    "video/mp4": b"\0\0\0\x20ftypisom" + bytes(64),
    "video/webm": b"\x1a\x45\xdf\xa3" + bytes(64),
    "application/pdf": b"%PDF-1.7\n%%EOF",
    "text/html": b"<p>caf\xc3\xa9</p>",
    "text/plain": "für 🎉".encode(),
    "text/csv": b"time,value\n0,1\n",
}


@pytest.mark.parametrize("media_type", WHOLE)
def test_what_browsers_show_passes(media_type):
    check_shown({"it": Media(WHOLE[media_type], media_type)})


@pytest.mark.parametrize("media_type", WHOLE)
def test_other_bytes_than_the_media_type_says_are_refused_in_one_line(media_type):
    with pytest.raises(PayloadError, match=r"^'it' cannot be shown: .*\. [A-Z]") as caught:
        check_shown({"it": Media(b"\xff\x00 no such file", media_type)})
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("media_type", WHOLE)
def test_an_empty_file_is_refused(media_type):
    """Label Studio answers a request with an empty text file alone by 400."""
    with pytest.raises(PayloadError, match="has 0 bytes"):
        check_shown({"it": Media(b"", media_type)})


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "GIF", "WEBP"])
def test_half_a_picture_is_refused(kind):
    with pytest.raises(PayloadError, match="cannot be shown"):
        check_shown({"it": Media(saved(kind)[:-400], f"image/{kind.lower()}")})


def test_the_size_of_a_picture_is_read_before_a_pixel_is_decoded():
    with pytest.raises(PayloadError, match=r"60,000 x 60,000|over 89 million"):
        check_shown({"it": Media(huge_png(), "image/png")})


@pytest.mark.parametrize("media_type", ["image/tiff", "video/x-msvideo", "", "application/x-sh"])
def test_what_no_browser_shows_is_named_with_what_they_do_show(media_type):
    with pytest.raises(PayloadError, match=rf"do not show '{media_type}'\. Give one of image/png"):
        check_shown({"it": Media(saved("TIFF"), media_type)})


@pytest.mark.parametrize(
    ("media_type", "extension"),
    [("IMAGE/JPG", "jpg"), ("text/html; charset=utf-8", "html"), ("audio/x-wav", "wav")],
)
def test_a_media_type_is_read_as_a_content_type_is_written(media_type, extension):
    assert type_of(Media(b"", media_type)).extension == extension


@pytest.mark.parametrize("text", ["🎉 émoji", "שלום עולם", "مرحبا", "a" * 999_990, "", "<b>&"])
def test_any_usual_text_passes(text):
    check_shown({"text": text})


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ("a\0b", "a NUL in it"),
        ({"deep": [{"a\0": 1}]}, "a NUL in it"),
        ("\ud83d", "half a character"),
        ("a" * 1_000_001, "1,000,003 bytes of text, and at most 1,000,000 are sent"),
        ("é" * 600_000, "1,200,002 bytes"),
        (Media(b"caf\xe9", "text/plain"), r"not UTF-8 .* at byte 3"),
        (Media(b"a\0", "text/html"), "a NUL in it"),
    ],
)
def test_text_that_cannot_be_stored_is_refused_with_what_to_do(value, words):
    with pytest.raises(PayloadError, match=rf"{words}.*\. [A-Z]"):
        check_shown({"text": value})


CONFIG = """<View>
  <Header value="Of $title"/>
  <Text name="text" value="$text"/>
  <Image name="pages" valueList="$pages"/>
  <Table name="row" value="$record"/>
  <Text name="part" value="$record.title"/>
  <Choices name="kind" toName="text" value="$kinds"><Choice value="$100"/></Choices>
</View>"""
DATA = {"title": "t", "text": "a", "pages": ["/1"], "record": {"title": 1}, "kinds": ["x"]}


def test_the_names_of_a_config_are_found_wherever_they_stand():
    assert set(names_in(CONFIG)) == set(DATA)
    assert not names_in("<View>")


def test_data_that_a_config_shows_fits():
    check_fit(CONFIG, {**DATA, "more": None})


@pytest.mark.parametrize("name", DATA)
def test_a_name_of_the_config_that_is_missing_is_named(name):
    with pytest.raises(TaskError, match=rf"config shows \${name}\. Give every"):
        check_fit(CONFIG, {key: value for key, value in DATA.items() if key != name})


@pytest.mark.parametrize("name", ["key", "sample_id", "reason", "confidence", "model"])
def test_names_that_the_product_writes_itself_are_reserved(name):
    with pytest.raises(TaskError, match=rf"gives '{name}', which flywheel writes itself"):
        check_fit(CONFIG, {**DATA, name: 1})


@pytest.mark.parametrize(
    ("tag", "value", "words"),
    [
        ("Image", Media(b"", "audio/wav"), "kind audio as 'it', which <Image> does not show"),
        ("Audio", Media(b"", "image/png"), "kind image"),
        ("Text", {"a": 1}, "kind object"),
        ("Table", 3, "kind number"),
        ("Pdf", Media(b"", "text/html"), "kind HTML file"),
        ("HyperText", Media(b"", "text/html"), "would show the address of the HTML file"),
        ("Text", None, "kind null"),
    ],
)
def test_a_value_that_its_tag_does_not_show_is_named(tag, value, words):
    with pytest.raises(TaskError, match=words):
        check_fit(f'<View><{tag} name="n" value="$it"/></View>', {"it": value})


def test_an_address_is_fetched_where_the_config_says_so():
    config = '<View><HyperText name="n" value="$it" valueType="url"/></View>'
    check_fit(config, {"it": Media(b"", "text/html")})


def test_a_tag_that_is_not_known_shows_anything():
    check_fit('<View><MyTag name="n" value="$it"/></View>', {"it": Media(b"", "audio/wav")})
    assert kind_of(Media(b"", "application/pdf")) == "PDF"
