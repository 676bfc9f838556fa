"""A real, small model server: it answers over HTTP, and keeps what it was sent."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest


class SmallServer(ThreadingHTTPServer):
    """Answers every payload with its own text, so that a test chooses what it answers."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.seen: list[tuple[str, dict[str, str], bytes]] = []
        self.status = 200
        self.url = f"http://127.0.0.1:{self.server_address[1]}"

    def bodies(self, path: str) -> list[dict]:
        return [json.loads(body) for found, _, body in self.seen if found == path]


class _Handler(BaseHTTPRequestHandler):
    server: SmallServer

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.seen.append((self.path, dict(self.headers), body))
        reply = {"detail": "not now"}
        if self.path == "/predict":
            reply = {"request_id": body.decode(), "answer": body.decode().split()[0]}
        text = json.dumps(reply).encode()
        self.send_response(self.server.status)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def log_message(self, *args: object) -> None:
        """Quiet."""


@contextmanager
def _serving() -> Iterator[SmallServer]:
    with SmallServer() as small:
        thread = threading.Thread(target=small.serve_forever, args=(0.01,))
        thread.start()
        yield small
        small.shutdown()
        thread.join()


@pytest.fixture
def server() -> Iterator[SmallServer]:
    with _serving() as small:
        yield small


@pytest.fixture(scope="module")
def busy_server() -> Iterator[SmallServer]:
    """One for all tests of a file, which send to it once and look at what it got."""
    with _serving() as small:
        yield small
