"""A bad network before a server: what may go wrong with a request goes wrong, by a seeded draw.

Knows nothing of what is asked. `Fault` names all that can happen; `FaultyProxy.fired` counts it.
"""

from __future__ import annotations

import contextlib
import enum
import http.client
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import NamedTuple, Self
from urllib.parse import urlsplit

import numpy as np

LARGE_BYTES = 2_500
_LARGE_SHARE = 0.4
_DELAY_SECONDS = 0.05
_SERVER_SECONDS = 60


class Fault(enum.Enum):
    """What may happen to a request."""

    LOST_ANSWER = "the server did the work, and its answer got lost"
    DELAY = "the answer came late"
    ERROR_500 = "500, nothing was done"
    TOO_MANY_429 = "429 with Retry-After, nothing was done"
    TOO_LARGE_413 = "413 for a large body, nothing was done"
    CUT_REQUEST = "the connection was cut in the middle of the body"
    CUT_ANSWER = "the connection was cut in the middle of the answer"
    IMPATIENT_504 = "504 while the server was still at work"


class Asked(NamedTuple):
    """A request as it came in."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes


class FaultyProxy:
    """Passes requests on to a server, or does not. Use it as a context."""

    def __init__(self, target: str, rng: np.random.Generator, rate: float) -> None:
        self.target = urlsplit(target)
        self.rate = rate
        """share of requests to which something happens"""
        self.fired = Counter[Fault]()
        self.num_requests = 0
        self.when_sent: Callable[[Asked], None] = lambda asked: None
        """called when a request is with the server, and not answered yet"""
        self._rng, self._lock = rng, threading.Lock()
        handler = type("_Handler", (_Handler,), {"proxy": self})
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self._server.daemon_threads = True

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    def draw(self, asked: Asked) -> Fault | None:
        """What happens to a request; writes suffer twice as often as reads."""
        with self._lock:
            self.num_requests += 1
            share = self.rate if asked.method == "GET" else 2 * self.rate
            if self._rng.random() >= share:
                return None
            fault = self._pick(asked)
            self.fired[fault] += 1
            return fault

    def _pick(self, asked: Asked) -> Fault:
        """One of those that happened least often, so that in the end all did."""
        is_large = len(asked.body) > LARGE_BYTES
        is_due = not self.fired[Fault.TOO_LARGE_413] or self._rng.random() < _LARGE_SHARE
        if is_large and is_due:
            return Fault.TOO_LARGE_413
        possible = [fault for fault in Fault if fault is not Fault.TOO_LARGE_413]
        if not asked.body:
            possible.remove(Fault.CUT_REQUEST)
        least = min(self.fired[fault] for fault in possible)
        possible = [fault for fault in possible if self.fired[fault] == least]
        return possible[self._rng.integers(len(possible))]


class _Handler(BaseHTTPRequestHandler):
    """One connection of a client, which carries one request."""

    proxy: FaultyProxy

    def handle_one_request(self) -> None:
        self.close_connection = True
        self.raw_requestline = self.rfile.readline(65537)
        if not self.raw_requestline or not self.parse_request():
            return
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        asked = Asked(self.command, self.path, dict(self.headers.items()), body)
        with contextlib.suppress(OSError, http.client.HTTPException):
            self._serve(asked, self.proxy.draw(asked))

    def log_message(self, *_: object) -> None:
        """Ignored."""

    def _serve(self, asked: Asked, fault: Fault | None) -> None:
        if fault is Fault.ERROR_500:
            self._answer(500, b'{"detail": "a proxy says 500"}')
        elif fault is Fault.TOO_MANY_429:
            self._answer(429, b'{"detail": "slowly"}', {"Retry-After": "1"})
        elif fault is Fault.TOO_LARGE_413:
            self._answer(413, b"<html>413 Request Entity Too Large</html>")
        else:
            if fault is Fault.DELAY:
                time.sleep(_DELAY_SECONDS)
            with self._passed_on(asked, whole=fault is not Fault.CUT_REQUEST) as server:
                self._pass_back(server, fault)

    @contextlib.contextmanager
    def _passed_on(self, asked: Asked, *, whole: bool) -> Iterator[http.client.HTTPConnection]:
        target = self.proxy.target
        server = http.client.HTTPConnection(target.hostname, target.port, timeout=_SERVER_SECONDS)
        with contextlib.closing(server):
            server.putrequest(asked.method, asked.path, skip_host=True, skip_accept_encoding=True)
            for name, value in asked.headers.items():
                if name.lower() not in ("connection", "host"):
                    server.putheader(name, value)
            server.putheader("Host", target.netloc)
            server.putheader("Connection", "close")
            server.endheaders()
            server.send(asked.body if whole else asked.body[: len(asked.body) // 2])
            self.proxy.when_sent(asked)
            yield server

    def _pass_back(self, server: http.client.HTTPConnection, fault: Fault | None) -> None:
        if fault is Fault.CUT_REQUEST:
            return
        if fault is Fault.IMPATIENT_504:
            self._answer(504, b"<html>504 Gateway Time-out</html>")
            self.connection.shutdown(socket.SHUT_WR)
        answer = server.getresponse()
        body = answer.read()
        if fault in (Fault.LOST_ANSWER, Fault.IMPATIENT_504):
            return
        kept = {
            name: value
            for name, value in answer.getheaders()
            if name.lower() in ("content-type", "location", "retry-after")
        }
        self._answer(answer.status, body, kept, cut=fault is Fault.CUT_ANSWER)

    def _answer(
        self, status: int, body: bytes, headers: dict[str, str] | None = None, *, cut: bool = False
    ) -> None:
        lines = {"Content-Length": str(len(body)), "Connection": "close", **(headers or {})}
        head = "".join(f"{name}: {value}\r\n" for name, value in lines.items())
        text = f"HTTP/1.1 {status} sent by a proxy\r\n{head}\r\n".encode() + body
        self.wfile.write(text[: len(text) - len(body) // 2 - 1] if cut else text)
        self.wfile.flush()
