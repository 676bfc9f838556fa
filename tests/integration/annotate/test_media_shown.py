"""Media that go three ways are shown to annotators, in a real browser of the real Label Studio."""

import dataclasses
import functools
import http.server
import io
import shutil
import threading
import uuid
import wave

import cv2
import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import expect

from flywheel.annotate import LabelStudioBackend
from flywheel.annotate.backend import NewLabelingTask
from flywheel.annotate.label_studio.media import MediaStorage
from flywheel.media import check_fit, check_shown, type_of
from flywheel.records import Json, Media, content_id
from flywheel.stack import catalogue
from flywheel.stack.credentials import Credentials
from flywheel.stack.supervise import start_all, stop_all

pytestmark = pytest.mark.integration

CONFIG = """<View>
  <Image name="image" value="$image"/>
  <Choices name="letter" toName="image"><Choice value="a"/></Choices>
</View>"""
NAME = content_id(b"sample")
FILE = f"{NAME}-image.png"
WIDTH = 123
EVERY_KIND = """<View>
  <Text name="text" value="$text"/>
  <Text name="file" value="$file" valueType="url"/>
  <HyperText name="page" value="$page" valueType="url"/>
  <Table name="record" value="$record"/>
  <Audio name="sound" value="$sound"/>
  <Video name="film" value="$film"/>
  <Pdf name="paper" value="$paper"/>
  <Paragraphs name="talk" value="$talk" layout="dialogue"/>
  <TimeSeries name="series" value="$series" sep="," timeColumn="second">
    <Channel column="volt"/>
  </TimeSeries>
  <Choices name="letter" toName="text"><Choice value="a"/></Choices>
</View>"""


def sound() -> bytes:
    """A second of noise."""
    buffer = io.BytesIO()
    with wave.open(buffer, "wb") as file:
        file.setparams((1, 2, 8000, 0, "NONE", ""))
        file.writeframes(np.random.default_rng(0).integers(-9999, 9999, 8000, "<i2").tobytes())
    return buffer.getvalue()


def film(path) -> bytes:
    """Two seconds that grow lighter."""
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"VP80"), 25, (WIDTH + 1, 80))
    for shade in range(50):
        writer.write(np.full((80, WIDTH + 1, 3), 5 * shade, np.uint8))
    writer.release()
    return path.read_bytes()


def paper() -> bytes:
    """One page."""
    buffer = io.BytesIO()
    Image.new("L", (90, 90), 99).save(buffer, "PDF")
    return buffer.getvalue()


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    """The folder below which the server shows files."""
    return tmp_path_factory.mktemp("shared")


@pytest.fixture(scope="module")
def label_studio(label_studio, label_studio_template, free_url, shared, tmp_path_factory):
    """A server of these tests' own, which may show files of a folder."""
    state, url = tmp_path_factory.mktemp("label-studio-files"), free_url()
    shutil.copytree(label_studio_template, state / "data")
    names = ("email", "password", "token")
    known = Credentials(
        secret_key="k" * 50, **{name: getattr(label_studio, name) for name in names}
    )
    service = catalogue.label_studio(state / "data", url, known)
    files = {
        "LABEL_STUDIO_LOCAL_FILES_SERVING_ENABLED": "true",
        "LABEL_STUDIO_LOCAL_FILES_DOCUMENT_ROOT": str(shared),
    }
    start_all([dataclasses.replace(service, env=service.env | files)], state, print)
    yield dataclasses.replace(label_studio, url=url, data=state / "data")
    stop_all(state, print)


@pytest.fixture
def picture() -> bytes:
    buffer = io.BytesIO()
    Image.new("L", (WIDTH, 45), 200).save(buffer, "PNG")
    return buffer.getvalue()


class Open(http.server.SimpleHTTPRequestHandler):
    """Lets pages of other servers show its files."""

    def end_headers(self) -> None:
        self.send_header("Access-Control-Allow-Origin", "*")
        super().end_headers()

    def log_message(self, *_) -> None:
        """Quiet."""


@pytest.fixture
def place(request, shared, tmp_path):
    """Where pictures go, one way."""
    if request.param == "folder":
        yield MediaStorage(way="folder", folder=str(shared / "of one/project"))
    elif request.param == "upload":
        yield MediaStorage()
    else:
        handler = functools.partial(Open, directory=tmp_path)
        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        url = f"http://127.0.0.1:{server.server_port}/p"
        yield MediaStorage(way="url", folder=f"{tmp_path}/p", url=url)
        server.shutdown()
        server.server_close()
        thread.join()


@pytest.mark.parametrize(
    "place",
    [pytest.param("upload", marks=pytest.mark.long), "folder", "url"],
    indirect=True,
)
def test_annotators_see_the_picture(place, label_studio, picture, page):
    studio = LabelStudioBackend.connect(label_studio.url, label_studio.token, place)
    project = studio.ensure(f"pictures {uuid.uuid4().hex[:8]}", CONFIG, None)
    for _ in range(2):  # the second time as after a kill
        address = studio.publish(project.id, {FILE: Media(picture, "image/png")})[FILE]
    studio.push(project.id, [_item(address)])
    page.goto(f"{project.url}?labeling=1")
    expect(page.get_by_test_id("bottombar-submit-button")).to_be_visible(timeout=60_000)
    widths = "() => [...document.images].map(image => image.naturalWidth)"
    page.wait_for_function(f"({widths})().includes({WIDTH})", timeout=20_000)
    assert page.get_by_text("issue loading URL").count() == 0


def _item(address: str, **data: Json) -> NewLabelingTask:
    return NewLabelingTask(
        key="k" * 64,
        sample_id=NAME,
        data=data or {"image": address},
        result=[],
        priority=0.5,
        num_annotators=1,
        shown={},
    )


def test_uploaded_pictures_are_served_as_they_are(studio, annotators):
    project = studio.ensure(f"pictures {uuid.uuid4().hex[:8]}", CONFIG, None)
    pictures = {}
    for shade in range(0, 250, 2):
        buffer = io.BytesIO()
        Image.new("L", (8, 8), shade).save(buffer, "PNG")
        pictures[f"{shade}.png"] = Media(buffer.getvalue(), "image/png")
    found = studio.publish(project.id, pictures)
    assert found.keys() == pictures.keys()
    for name in list(pictures)[::20]:
        assert annotators.http.get(found[name]).content == pictures[name].payload


def test_every_kind_of_file_is_served_as_it_is_and_as_what_it_is(studio, annotators):
    project = studio.ensure(f"kinds {uuid.uuid4().hex[:8]}", CONFIG, None)
    kinds = {
        "a.wav": Media(sound(), "audio/wav"),
        "a.mp3": Media(b"ID3" + bytes(9), "audio/mpeg"),
        "a.ogg": Media(b"OggS", "audio/ogg"),
        "a.flac": Media(b"fLaC", "audio/flac"),
        "a.m4a": Media(b"\0\0\0 ftypM4A ", "audio/mp4"),
        "a.mp4": Media(b"\0\0\0 ftypisom", "video/mp4"),
        "a.webm": Media(b"\x1aE\xdf\xa3", "video/webm"),
        "a.pdf": Media(b"%PDF-1.7", "application/pdf"),
        "a.html": Media(b"<b>page</b>", "text/html"),
        "a.txt": Media("für 🎉".encode(), "text/plain"),
        "b.txt": Media(b"time,value\n0,1\n1,2,3\n", "text/csv"),
    }
    assert {type_of(one).extension for one in kinds.values()} == {name[2:] for name in kinds}
    found = studio.publish(project.id, kinds)
    for name, media in kinds.items():
        answer = annotators.http.get(found[name])
        assert answer.content == media.payload
        assert answer.headers["content-type"].split("/")[0] == media.media_type.split("/")[0]
    assert annotators.tasks(project.id) == []  # files are not read as tasks


@pytest.mark.parametrize(
    "place",
    ["upload", *(pytest.param(place, marks=pytest.mark.long) for place in ("folder", "url"))],
    indirect=True,
)
def test_annotators_see_every_kind(place, label_studio, page, tmp_path):
    studio = LabelStudioBackend.connect(label_studio.url, label_studio.token, place)
    project = studio.ensure(f"kinds {uuid.uuid4().hex[:8]}", EVERY_KIND, None)
    files = {
        f"{NAME}-page.html": Media(b"<p>a <b>bold</b> page</p>", "text/html"),
        f"{NAME}-sound.wav": Media(sound(), "audio/wav"),
        f"{NAME}-file.txt": Media("ein Wort für 🎉".encode(), "text/plain"),
        f"{NAME}-film.webm": Media(film(tmp_path / "film.webm"), "video/webm"),
        f"{NAME}-paper.pdf": Media(paper(), "application/pdf"),
        f"{NAME}-series.txt": Media(b"second,volt\n0,1234\n1,1240\n2,1236\n", "text/csv"),
    }
    found = studio.publish(project.id, files)
    media = {name.split("-")[1].split(".")[0]: name for name in files}
    said = [{"author": "Ann", "text": "good morning"}]
    data = {"text": "שלום <b>& 🎉", "record": {"age": 61}, "talk": said}
    check_fit(EVERY_KIND, data | {name: files[file] for name, file in media.items()})
    data |= {name: found[file] for name, file in media.items()}
    fetched = []
    page.on("response", lambda answer: fetched.append((answer.status, answer.url)))
    studio.push(project.id, [_item("", **data)])
    page.goto(f"{project.url}?labeling=1")
    expect(page.get_by_test_id("bottombar-submit-button")).to_be_visible(timeout=60_000)
    for words in ("שלום <b>& 🎉", "ein Wort für 🎉", "61", "good morning", "1236"):
        expect(page.get_by_text(words).first).to_be_visible()
    expect(page.frame_locator("iframe").get_by_text("bold")).to_be_visible()
    page.wait_for_function(f"document.querySelector('video').videoWidth == {WIDTH + 1}")
    page.wait_for_timeout(2_000)
    for name in ("sound", "paper"):
        assert any(status in (200, 206) and f"{NAME}-{name}" in url for status, url in fetched)
    expect(page.locator('embed[type="application/pdf"]')).to_be_visible()
    assert page.get_by_text("issue loading URL").count() == 0


def test_a_text_of_a_megabyte_comes_back_as_it_was_sent(studio, annotators):
    project = studio.ensure(f"long {uuid.uuid4().hex[:8]}", EVERY_KIND, None)
    data = {"text": "für 🎉 مرحبا " * 45_000, "record": {"deep": [1, 2.5, None, True]}}
    files = ("page", "sound", "file", "film", "paper", "series")
    data |= dict.fromkeys(files, "/static/images/logo.png")
    data |= {"talk": [{"author": "Ann", "text": "good morning"}]}
    check_shown(data)
    studio.push(project.id, [_item("", **data)])
    (row,) = studio.inventory(project.id)
    assert {name: row.data[name] for name in data} == data
