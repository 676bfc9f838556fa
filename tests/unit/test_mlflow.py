"""A night does not end because of MLflow: what it lacks is said."""

import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from flywheel.mlflow import show_in_mlflow
from flywheel.testing import open_memory, toy_task


class Answering(BaseHTTPRequestHandler):
    """Answers everything in one way, and keeps what it was asked with."""

    def do_GET(self):
        self.server.heard.append(self.headers)
        status, body = self.server.says
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_POST(self):
        self.do_GET()

    def log_message(self, *_):
        pass


@pytest.fixture
def server():
    with ThreadingHTTPServer(("127.0.0.1", 0), Answering) as found:
        found.heard, found.says = [], (200, b"{}")
        threading.Thread(target=found.serve_forever, daemon=True).start()
        yield found
        found.shutdown()


def shown(tmp_path, url):
    with open_memory(toy_task(), tmp_path, release={"mlflow_url": url} if url else {}) as project:
        loop = project.loop
        return show_in_mlflow(loop.project, loop.ledger, loop.blobs)


@pytest.mark.parametrize(
    ("says", "lacks"),
    [
        (
            (200, b"<html>"),
            "is answered with what is no JSON. Let release.mlflow_url name an MLflow server",
        ),
        (
            (500, b"out of order"),
            "experiments/get-by-name is answered 500 (out of order). See its log",
        ),
        ((403, b""), "experiments/get-by-name is answered 403 (). See its log"),
        ((200, b"{}"), "is answered with what MLflow does not say"),
        ((200, b"[]"), "is answered with what MLflow does not say"),
    ],
)
def test_a_server_that_is_none_is_said(tmp_path, server, says, lacks):
    server.says = says
    url = f"http://127.0.0.1:{server.server_port}"
    note = shown(tmp_path, url)
    assert note.startswith(f"MLflow at {url} lacks this night: ")
    assert lacks in note


def test_nobody_who_answers_is_said(tmp_path):
    assert "Connection refused" in shown(tmp_path, "http://127.0.0.1:9")


def test_without_a_url_nobody_is_asked(tmp_path):
    assert shown(tmp_path, None) == ""


def test_the_token_of_the_environment_is_sent_and_not_said(tmp_path, server, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_TOKEN", "secret-of-the-test")
    server.says = (401, b"no")
    assert "secret-of-the-test" not in shown(tmp_path, f"http://127.0.0.1:{server.server_port}")
    assert server.heard[0]["Authorization"] == "Bearer secret-of-the-test"
