"""What Studio makes of a server's answers; the real server is in tests/integration/label."""

import json

import httpx
import jwt
import pytest

from flywheel.errors import RefusedError, UnavailableError
from flywheel.label import Studio
from flywheel.label.exchange import Item
from flywheel.records import Share

TOKEN = "0123456789abcdef0123456789abcdef01234567"


def _connect(answer) -> Studio:
    """A studio whose server says `answer(request)` to all but the first question, who we are."""

    def handle(request: httpx.Request) -> httpx.Response:
        if request.url.path == "/api/current-user/whoami":
            return httpx.Response(200, json={"id": 1})
        return answer(request)

    return Studio.connect("http://studio", TOKEN, httpx.MockTransport(handle))


def _item(number: int, size: int = 10) -> Item:
    return Item(
        sample_id=f"{number:064x}",
        picture=b"p" * size,
        result=[],
        model_version="0123456789ab",
        confidence=0.5,
        priority=0.5,
        reason="low_confidence 0.50",
        share=Share.PROBABILITY,
        inclusion_probability=0.25,
    )


class Server:
    """Takes uploads and imports, and counts them."""

    config = '<View><Image name="i" value="$image"/></View>'

    def __init__(self) -> None:
        self.uploads: list[int] = []
        self.lookups: list[str] = []
        self.imported: list[dict] = []

    def __call__(self, request: httpx.Request) -> httpx.Response:
        path = request.url.path
        if path == "/api/tasks":
            self.lookups.append(str(request.url))
            return httpx.Response(200, json={"tasks": []})
        if path.endswith("/file-uploads"):
            return httpx.Response(200, json=self._files())
        if "commit_to_project" in str(request.url):
            self.uploads.append(request.content.count(b"filename="))
            self.names = request.content
            return httpx.Response(201, json={"file_upload_ids": [1]})
        if path.endswith("/import"):
            self.imported += json.loads(request.content)
            return httpx.Response(
                201, json={"task_ids": list(range(len(json.loads(request.content))))}
            )
        return httpx.Response(200, json={"label_config": self.config})

    def _files(self) -> list[dict]:
        names = [part.split(b'"')[0].decode() for part in self.names.split(b'filename="')[1:]]
        return [{"file": f"upload/1/00000000-{name}"} for name in names]


@pytest.mark.parametrize("token", ["", None])
def test_without_a_token_nothing_is_asked(token):
    with pytest.raises(RefusedError, match="LABEL_STUDIO_API_KEY"):
        Studio.connect("http://studio", token)


@pytest.mark.parametrize("status", [408, 429, 500, 503])
def test_a_server_in_trouble_is_unavailable(status):
    studio = _connect(lambda _: httpx.Response(status, json={"detail": "busy"}))
    with pytest.raises(UnavailableError, match=f"{status}: busy"):
        studio.ensure_project("letters", "<View/>", 1)


@pytest.mark.parametrize("status", [400, 403, 413])
def test_a_server_that_says_no_refuses(status):
    studio = _connect(lambda _: httpx.Response(status, json={"detail": "never"}))
    with pytest.raises(RefusedError, match=f"{status}: never"):
        studio.ensure_project("letters", "<View/>", 1)


def test_an_error_never_holds_the_token_or_a_cookie():
    headers = {"set-cookie": "sessionid=secret"}
    studio = _connect(lambda _: httpx.Response(400, json={"detail": "no"}, headers=headers))
    with pytest.raises(RefusedError) as error:
        studio.ensure_project("letters", "<View/>", 1)
    assert "secret" not in str(error.value)
    assert TOKEN not in str(error.value)


def test_another_web_server_is_no_label_studio():
    page = httpx.Response(200, text="<html>Welcome</html>")
    with pytest.raises(RefusedError, match="no JSON"):
        Studio.connect("http://studio", TOKEN, httpx.MockTransport(lambda _: page))


def test_a_proxy_that_answers_a_token_refresh_with_a_page_is_told():
    page = httpx.Response(502, text="<html>Bad gateway</html>")
    token = jwt.encode({"token_type": "refresh", "exp": 4_000_000_000}, "k" * 32, "HS256")
    with pytest.raises(UnavailableError, match="is not Label Studio"):
        Studio.connect("http://studio", token, httpx.MockTransport(lambda _: page))


def test_no_request_is_repeated_by_the_sdk():
    seen = []
    studio = _connect(lambda request: seen.append(request) or httpx.Response(503))
    with pytest.raises(UnavailableError):
        studio.ensure_project("letters", "<View/>", 1)
    assert len(seen) == 1


def test_uploads_stay_within_what_label_studio_takes():
    server = Server()
    _connect(server).push(1, [_item(number) for number in range(230)])
    assert server.uploads == [100, 100, 30]


def test_large_pictures_go_in_smaller_uploads():
    server = Server()
    _connect(server).push(1, [_item(number, size=9_000_000) for number in range(3)])
    assert server.uploads == [1, 1, 1]


def test_a_look_up_fits_into_an_address():
    server = Server()
    _connect(server).find(1, [f"{number:064x}" for number in range(120)])
    assert len(server.lookups) == 3
    assert max(len(address) for address in server.lookups) < 8_000


def test_every_item_gets_its_own_picture():
    server = Server()
    _connect(server).push(1, [_item(number) for number in range(3)])
    for task in server.imported:
        assert task["data"]["image"] == f"/data/upload/1/00000000-{task['data']['sample_id']}.png"


def test_a_project_that_is_gone_has_no_labeling_tasks():
    studio = _connect(lambda _: httpx.Response(404, json={"detail": "gone"}))
    assert list(studio.pull(1, None)) == []
    assert studio.find(1, ["a"]) == {}


def test_an_import_in_the_background_is_looked_up_later(monkeypatch):
    monkeypatch.setattr("flywheel.label.studio._PAUSE_SECONDS", 0.0)

    class Hosted(Server):
        def __call__(self, request: httpx.Request) -> httpx.Response:
            if request.url.path == "/api/tasks" and self.imported:
                found = [{"id": 5, "data": task["data"]} for task in self.imported]
                return httpx.Response(200, json={"tasks": found})
            answer = super().__call__(request)
            return httpx.Response(201, json={"import": 1}) if self.imported else answer

    server = Hosted()
    assert _connect(server).push(1, [_item(1)]) == {f"{1:064x}": 5}
    assert len(server.imported) == 1
