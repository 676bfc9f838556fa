"""What becomes of a request: repeats, pauses, tokens, and errors that say what to do."""

import httpx
import jwt
import pytest

from flywheel.annotate.label_studio.client import Client, GoneError, TooLargeError
from flywheel.errors import RefusedError, UnavailableError

TOKEN = "0123456789abcdef0123456789abcdef01234567"


def _connect(answer, waits=None, token=TOKEN) -> Client:
    """A client whose server says `answer(request)` to all but the first question, who we are."""

    def handle(request: httpx.Request) -> httpx.Response:
        if request.url.path == "/api/current-user/whoami":
            return httpx.Response(200, json={"id": 1})
        return answer(request)

    sleep = (waits if waits is not None else []).append
    return Client.connect("http://studio", token, httpx.MockTransport(handle), sleep)


@pytest.mark.parametrize("token", ["", None])
def test_without_a_token_nothing_is_asked(token):
    with pytest.raises(RefusedError, match="LABEL_STUDIO_API_KEY"):
        Client.connect("http://studio", token)


@pytest.mark.parametrize("status", [408, 429, 500, 503])
def test_a_server_in_trouble_is_unavailable(status):
    client = _connect(lambda _: httpx.Response(status, json={"detail": "busy"}))
    with pytest.raises(UnavailableError, match=f"{status}: busy"):
        client.call("GET", "api/projects/1/")


@pytest.mark.parametrize("status", [400, 403, 413])
def test_a_server_that_says_no_refuses(status):
    client = _connect(lambda _: httpx.Response(status, json={"detail": "never"}))
    with pytest.raises(RefusedError, match=f"{status}: never"):
        client.call("GET", "api/projects/1/")


def test_an_error_never_holds_the_token_or_a_cookie():
    headers = {"set-cookie": "sessionid=secret"}
    client = _connect(lambda _: httpx.Response(400, json={"detail": "no"}, headers=headers))
    with pytest.raises(RefusedError) as error:
        client.call("GET", "api/projects/1/")
    assert "secret" not in str(error.value)
    assert TOKEN not in str(error.value)


def test_pauses_grow_and_are_as_long_as_the_server_asks_for():
    waits, busy = [], {"Retry-After": "3"}
    client = _connect(lambda _: httpx.Response(503, json={}, headers=busy), waits)
    with pytest.raises(UnavailableError, match="503"):
        client.call("GET", "api/projects/1/")
    assert waits == [3, 3, 4, 8, 16]


def test_a_server_that_asks_for_an_hour_is_not_waited_for():
    waits, busy = [], {"Retry-After": "3600"}
    client = _connect(lambda _: httpx.Response(429, json={}, headers=busy), waits)
    with pytest.raises(UnavailableError, match="429"):
        client.call("GET", "api/projects/1/")
    assert waits == []


def test_another_web_server_is_no_label_studio():
    page = httpx.MockTransport(lambda _: httpx.Response(200, text="<html>Welcome</html>"))
    with pytest.raises(RefusedError, match="not JSON"):
        Client.connect("http://studio", TOKEN, page)


def test_an_address_that_sends_writes_on_to_another_is_refused():
    def moved(request):
        if request.url.scheme == "http" and request.method == "POST":
            return httpx.Response(301, headers={"location": "https://studio/"})
        return httpx.Response(200, json=[])

    with pytest.raises(RefusedError, match=r"https://studio/, .* labeling\.url"):
        _connect(moved).call("POST", "api/projects/", json={})


def _personal_token() -> str:
    return jwt.encode({"token_type": "refresh", "exp": 4_000_000_000}, "k" * 32, "HS256")


def test_a_proxy_that_answers_a_token_refresh_with_a_page_is_reported():
    page = httpx.MockTransport(lambda _: httpx.Response(502, text="<html>Bad gateway</html>"))
    with pytest.raises(UnavailableError, match="is not Label Studio"):
        Client.connect("http://studio", _personal_token(), page, lambda _: None)


# The SDK refreshes such a token with a pydantic call that is deprecated.
@pytest.mark.filterwarnings("ignore:The `parse_obj` method is deprecated")
def test_an_access_token_that_ended_by_the_servers_clock_is_renewed():
    given = []

    def answer(request):
        if request.url.path == "/api/token/refresh/":
            given.append(jwt.encode({"exp": 4_000_000_000, "n": len(given)}, "k" * 32, "HS256"))
            return httpx.Response(200, json={"access": given[-1]})
        is_new = request.headers["authorization"] == f"Bearer {given[-1]}" and len(given) > 1
        return httpx.Response(200 if is_new else 401, json={"detail": "it ended"})

    assert _connect(answer, token=_personal_token()).call("GET", "api/users/")
    assert len(given) == 2


def test_a_wrong_token_is_refused_by_name_and_not_renewed_for_ever():
    asked = []
    client = _connect(lambda request: asked.append(request) or httpx.Response(401, json={}))
    with pytest.raises(RefusedError, match="LABEL_STUDIO_API_KEY"):
        client.call("GET", "api/users/")
    assert len(asked) == 1


def test_a_request_that_may_not_be_repeated_is_sent_once():
    asked = []
    client = _connect(lambda request: asked.append(request) or httpx.Response(503))
    with pytest.raises(UnavailableError):
        client.ask("POST", "api/projects/1/import")
    assert len(asked) == 1


def test_a_refused_connection_is_reported_at_once_and_any_other_fault_waited_for():
    def refuse(_):
        raise httpx.ConnectError("refused")

    answers = [httpx.Response(502), httpx.Response(200, json={"id": 1})]
    waits = []
    Client.connect("http://s", TOKEN, httpx.MockTransport(lambda _: answers.pop(0)), waits.append)
    assert waits == [1]
    with pytest.raises(UnavailableError, match="flywheel up"):
        Client.connect("http://s", TOKEN, httpx.MockTransport(refuse), waits.append)
    assert waits == [1]


@pytest.mark.parametrize(("status", "kind"), [(404, GoneError), (413, TooLargeError)])
def test_what_is_gone_or_too_large_is_distinguished(status, kind):
    client = _connect(lambda _: httpx.Response(status, json={"detail": "no"}))
    with pytest.raises(kind):
        client.call("GET", "api/projects/1/")


def test_half_an_answer_is_asked_for_again():
    whole = httpx.Response(200, json=[1])
    cut = httpx.Response(200, text="[1", headers={"content-type": "application/json"})
    answers = [cut, whole]
    assert _connect(lambda _: answers.pop(0)).call("GET", "api/users/") == [1]
