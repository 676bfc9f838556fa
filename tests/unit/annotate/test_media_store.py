"""How pictures travel; that annotators see them is tested in tests/integration/annotate."""

import json
import os
import re
import threading

import httpx
import pytest

from flywheel.annotate.label_studio.client import Client
from flywheel.annotate.label_studio.media import (
    BY_UPLOAD,
    MediaStorage,
    store_of,
)
from flywheel.errors import RefusedError, UnavailableError
from flywheel.records import Media


def _png(payload: bytes) -> Media:
    return Media(payload, "image/png")


class Uploads:
    """Takes files, and answers with their names in an order of its own."""

    def __init__(self, most_bytes: int = 10**9, config: str = "<View/>") -> None:
        self.most_bytes = most_bytes
        self.config = config
        self.projects: list[dict] = []
        self.parts: list[int] = []
        self.lock = threading.Lock()
        self.files: dict[int, str] = {}

    def __call__(self, request: httpx.Request) -> httpx.Response:
        if request.url.path == "/api/projects/":
            if request.method == "POST":
                self.projects.append({**json.loads(request.content), "id": 7})
                return httpx.Response(201, json=self.projects[-1])
            return httpx.Response(200, json={"results": self.projects})
        if request.url.path == "/api/projects/1/":
            return httpx.Response(200, json={"label_config": self.config})
        number = request.url.path.split("/")[3]
        if request.method == "GET":
            ids = json.loads(request.url.params.get("ids", "[]"))
            rows = [{"id": one, "file": self.files[one]} for one in sorted(ids, reverse=True)]
            return httpx.Response(200, json=rows)
        if len(request.content) > self.most_bytes:
            return httpx.Response(413, text="<html>too large</html>")
        names = re.findall(rb'filename="([^"]+)"', request.content)
        with self.lock:
            self.parts.append(len(names))
            ids = [len(self.files) + place for place in range(len(names))]
            for one, name in zip(ids, names, strict=True):
                self.files[one] = f"upload/{number}/ab-cd-{name.decode()}"
        return httpx.Response(201, json={"file_upload_ids": ids})


def _client(answer) -> Client:
    transport = httpx.MockTransport(answer)
    return Client.connect("http://studio", "t" * 40, transport, lambda _: None)


def test_uploads_stay_within_what_label_studio_takes():
    server = Uploads()
    sent = {f"n{number}.png": _png(b"p") for number in range(230)}
    found = store_of(BY_UPLOAD, _client(server)).publish(1, sent)
    assert found == {name: f"/data/upload/1/ab-cd-{name}" for name in sent}
    assert sorted(server.parts) == [30, 100, 100]


def test_large_pictures_go_in_smaller_uploads():
    server = Uploads()
    sent = {f"n{number}": _png(b"p" * 9_000_000) for number in range(3)}
    store_of(BY_UPLOAD, _client(server)).publish(1, sent)
    assert server.parts == [1, 1, 1]


def test_what_a_proxy_takes_no_body_of_is_uploaded_in_halves():
    server = Uploads(most_bytes=2_000)
    sent = {f"n{number}": _png(b"p" * 300) for number in range(20)}
    assert store_of(BY_UPLOAD, _client(server)).publish(1, sent).keys() == sent.keys()
    assert sum(server.parts) == 20


def test_a_picture_too_large_for_a_proxy_is_named():
    with pytest.raises(RefusedError, match=r"big\.png has 9000 bytes: .*413"):
        store_of(BY_UPLOAD, _client(Uploads(2_000))).publish(1, {"big.png": _png(b"p" * 9_000)})


def test_files_of_a_config_with_several_tags_go_into_a_project_of_their_own():
    """Label Studio answered 400: direct file upload supports only one data key."""
    config = '<View><Image name="a" value="$a"/><Text name="b" value="$b"/></View>'
    server = Uploads(config=config)
    for _ in range(2):
        found = store_of(BY_UPLOAD, _client(server)).publish(1, {"n.png": _png(b"p")})
    assert found == {"n.png": "/data/upload/7/ab-cd-n.png"}
    (made,) = server.projects
    assert made["title"] == "files of project 1"


def test_nothing_to_upload_asks_nothing():
    assert store_of(BY_UPLOAD, _client(Uploads())).publish(1, {}) == {}


class SharesAFolder:
    """Knows a folder by the end of its path."""

    def __init__(self, root: str) -> None:
        self.root = root
        self.storages: list[dict] = []

    def __call__(self, request: httpx.Request) -> httpx.Response:
        if request.url.path == "/data/local-files/":
            is_there = os.path.exists(f"{self.root}/{request.url.params['d']}")  # noqa: PTH110
            return httpx.Response(200 if is_there else 404, content=b"picture")
        if request.method == "POST":
            self.storages.append(json.loads(request.content))
        return httpx.Response(200, json=self.storages)


def test_a_shared_folder_is_registered_once_and_found_below_the_servers_root(tmp_path):
    server, folder = SharesAFolder(str(tmp_path)), tmp_path / "two words/pictures"
    way = store_of(MediaStorage(way="folder", folder=str(folder)), _client(server))
    assert way.publish(1, {"a.png": _png(b"one")}) == {
        "a.png": "/data/local-files/?d=two%20words/pictures/a.png"
    }
    way.publish(1, {"a.png": _png(b"two")})
    assert [path.name for path in folder.iterdir()] == ["a.png"]
    assert (folder / "a.png").read_bytes() == b"two"
    assert [row["path"] for row in server.storages] == [str(folder)]


def test_a_folder_that_the_server_does_not_see_is_refused(tmp_path):
    server = SharesAFolder(str(tmp_path / "elsewhere"))
    way = store_of(MediaStorage(way="folder", folder=str(tmp_path / "p")), _client(server))
    with pytest.raises(RefusedError, match=r"media_folder under the same path"):
        way.publish(1, {"a.png": _png(b"one")})


@pytest.mark.parametrize("way", ["folder", "url"])
def test_a_place_that_cannot_be_written_lets_the_work_wait(way, tmp_path):
    (tmp_path / "file").write_text("no folder")
    place = MediaStorage(way=way, folder=str(tmp_path / "file/p"), url="http://x")
    with pytest.raises(UnavailableError, match="media_folder"):
        store_of(place, _client(Uploads())).publish(1, {"a.png": _png(b"one")})


def test_pictures_at_an_address_are_where_they_are_said_to_be(tmp_path):
    place = MediaStorage(
        way="url", folder=f"file://{tmp_path}/p", url="https://pictures.example/p/"
    )
    found = store_of(place, _client(Uploads())).publish(
        1, {"a.png": _png(b"one"), "b.png": _png(b"two")}
    )
    assert found["b.png"] == "https://pictures.example/p/b.png"
    assert (tmp_path / "p/b.png").read_bytes() == b"two"
