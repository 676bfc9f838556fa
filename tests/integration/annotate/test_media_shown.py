"""Pictures that go three ways are shown to annotators, in a real browser of the real Label Studio."""

import dataclasses
import functools
import http.server
import io
import shutil
import threading
import uuid

import pytest
from PIL import Image
from playwright.sync_api import expect

from flywheel.annotate import LabelStudioBackend
from flywheel.annotate.backend import NewLabelingTask
from flywheel.annotate.label_studio.media import MediaStorage
from flywheel.records import Media, content_id
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


@pytest.mark.parametrize("place", ["upload", "folder", "url"], indirect=True)
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


def _item(address: str) -> NewLabelingTask:
    return NewLabelingTask(
        key="k" * 64,
        sample_id=NAME,
        data={"image": address},
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
