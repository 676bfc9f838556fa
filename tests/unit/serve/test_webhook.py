import logging
import socket
from queue import Queue

import pytest

from flywheel.project import LabelingSettings
from flywheel.records import Webhook
from flywheel.serve import Listeners, webhook_of
from flywheel.serve.events import Debouncer
from flywheel.settings.operations import Serve

PATH = "/label-studio/events"
SECRET = "only the two of us know"
RIGHT = {"X-Flywheel-Secret": SECRET}
BODY = {"action": "ANNOTATION_CREATED", "project": {"token": "a token of the project"}}


@pytest.fixture
def secret(monkeypatch):
    monkeypatch.setenv("FLYWHEEL_WEBHOOK_SECRET", SECRET)


@pytest.fixture
def made():
    return Queue()


@pytest.fixture(autouse=True)
def soon(monkeypatch):
    """A burst is over after a moment."""
    monkeypatch.setitem(Debouncer.__init__.__kwdefaults__, "quiet", 0.05)


@pytest.fixture
def client(secret, serve, made):
    """Of a server without a model: events need none."""
    return serve(listeners=Listeners(on_annotations=made.put))


def spoken(client, *lines):
    """What the server says to a request whose body never comes."""
    address = (client.base_url.host, client.base_url.port)
    head = [
        f"POST {PATH} HTTP/1.1",
        "Host: localhost",
        f"X-Flywheel-Secret: {SECRET}",
        *lines,
        "",
        "",
    ]
    with socket.create_connection(address, timeout=30) as connection:
        connection.sendall("\r\n".join(head).encode())
        said = b""
        while piece := connection.recv(4096):  # until the server hangs up
            said += piece
    return said.decode()


def test_an_event_makes_a_call(client, made):
    answer = client.post(PATH, json=BODY, headers=RIGHT)
    assert (answer.status_code, answer.content) == (204, b"")
    assert made.get(timeout=30) == 1


def test_without_a_secret_of_its_own_the_server_takes_no_events(serve, made, monkeypatch):
    monkeypatch.delenv("FLYWHEEL_WEBHOOK_SECRET", raising=False)
    client = serve(listeners=Listeners(on_annotations=made.put))
    for headers in ({}, {"X-Flywheel-Secret": ""}, RIGHT):
        refused = client.post(PATH, json=BODY, headers=headers)
        assert refused.status_code == 404
        assert "FLYWHEEL_WEBHOOK_SECRET is not set" in refused.json()["detail"]
    assert made.empty()


@pytest.mark.parametrize(
    "given", [None, "", "wrong", SECRET[:-1], f"{SECRET}!", f"Bearer {SECRET}", "ö"]
)
def test_a_wrong_secret_is_401_and_makes_no_call(client, made, given):
    headers = {} if given is None else {"X-Flywheel-Secret": given.encode()}
    refused = client.post(PATH, json=BODY, headers=headers)
    assert refused.status_code == 401
    assert "FLYWHEEL_WEBHOOK_SECRET" in refused.json()["detail"]
    assert SECRET not in refused.text
    assert made.empty()


def test_events_need_no_token_and_the_token_is_no_secret(secret, serve, made, monkeypatch):
    monkeypatch.setenv("FLYWHEEL_SERVER_TOKEN", "open sesame")
    client = serve(listeners=Listeners(on_annotations=made.put))
    token = {"Authorization": "Bearer open sesame"}
    assert client.post(PATH, json=BODY, headers=RIGHT).status_code == 204
    assert client.post(PATH, json=BODY, headers=token).status_code == 401


@pytest.mark.parametrize("path", [f"{PATH}/", f"{PATH}/../../model", "/label-studio", f"/{PATH}"])
def test_the_way_in_for_events_leads_nowhere_else(secret, serve, monkeypatch, path):
    monkeypatch.setenv("FLYWHEEL_SERVER_TOKEN", "open sesame")
    assert serve().post(path, json=BODY, headers=RIGHT).status_code == 401


@pytest.mark.parametrize(
    "line", ["Content-Length: 1000001", f"Content-Length: {10**15}", "Transfer-Encoding: chunked"]
)
def test_a_body_that_is_or_may_be_too_long_is_refused_before_it_comes(client, made, line):
    said = spoken(client, line)
    assert said.startswith("HTTP/1.1 413")
    assert "at most 1000000 bytes" in said
    assert made.empty()


def test_no_event_is_read_so_none_can_be_wrong(client, made):
    for body in (b"", b"{", b"\xff" * 1_000_000):
        assert client.post(PATH, content=body, headers=RIGHT).status_code == 204
    assert made.get(timeout=30) >= 1


def test_nothing_of_an_event_is_logged(client, caplog):
    with caplog.at_level(logging.DEBUG):
        client.post(PATH, json=BODY, headers=RIGHT)
        client.post(PATH, json=BODY, headers={"X-Flywheel-Secret": "wrong"})
    assert "a token of the project" not in caplog.text
    assert SECRET not in caplog.text


def test_events_are_taken_while_the_listener_fails(secret, serve):
    made = Queue()

    def notify(number):
        made.put(number)
        raise ConnectionError("Prefect does not answer")

    client = serve(listeners=Listeners(on_annotations=notify))
    assert client.post(PATH, json=BODY, headers=RIGHT).status_code == 204
    assert made.get(timeout=30) == 1
    assert client.post(PATH, json=BODY, headers=RIGHT).status_code == 204
    assert client.get("/health").status_code == 200


def test_a_server_without_a_listener_takes_events_all_the_same(secret, serve):
    assert serve().post(PATH, json=BODY, headers=RIGHT).status_code == 204


@pytest.mark.parametrize(
    ("label_studio", "host", "url"),
    [
        ("http://127.0.0.1:8780", "127.0.0.1", "http://127.0.0.1:8700"),
        ("http://localhost:8780", "0.0.0.0", "http://127.0.0.1:8700"),
        ("http://localhost:8780", "10.0.0.7", "http://10.0.0.7:8700"),
        ("https://labels.example.com", "models.example.com", "http://models.example.com:8700"),
    ],
)
def test_label_studio_gets_an_address_that_it_reaches(project, secret, label_studio, host, url):
    settings = {"labeling": LabelingSettings(url=label_studio), "serve": Serve(host=host)}
    assert webhook_of(project.model_copy(update=settings)) == Webhook(url=url + PATH, secret=SECRET)


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "0.0.0.0", "::"])
def test_a_label_studio_elsewhere_is_never_sent_to_its_own_machine(project, secret, host):
    settings = {
        "labeling": LabelingSettings(url="https://labels.example.com"),
        "serve": Serve(host=host),
    }
    assert webhook_of(project.model_copy(update=settings)) is None


def test_without_a_secret_there_is_no_webhook(project, monkeypatch):
    monkeypatch.delenv("FLYWHEEL_WEBHOOK_SECRET", raising=False)
    assert webhook_of(project) is None


def test_the_secret_is_not_printed(project, secret):
    assert SECRET not in f"{webhook_of(project)!r}"
