"""Simulated people stop when they are told to; what they do all day is in tests/integration."""

import json
import os
import signal
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest

from flywheel.world import Arrival, Crowd, Person, choosing_hand

PEOPLE = [Person(email=f"{name}@example.com", password="password") for name in "abc"]
ARRIVAL = Arrival(payload=b"x", media_type="text/plain", metadata={}, truth="b")


class _Endless(BaseHTTPRequestHandler):
    """A labeling server that has one more labeling task than anybody waits for."""

    num_given = 0

    def do_GET(self):
        if self.path.endswith("/next"):
            _Endless.num_given += 1
        if _Endless.num_given > 2000:
            self._say(404, {})
            return
        data = {"sample_id": f"sample {_Endless.num_given}", "image": "/picture"}
        self._say(200, {"id": _Endless.num_given, "data": data, "predictions": []})

    def do_POST(self):
        self.rfile.read(int(self.headers["Content-Length"]))
        self._say(302 if "login" in self.path else 201, {})

    def _say(self, status, body):
        self.send_response(status)
        self.send_header("Set-Cookie", "csrftoken=token; Path=/")
        self.end_headers()
        self.wfile.write(json.dumps(body).encode())

    def log_message(self, *_):
        """Say nothing: it would land in the tests' output."""


@pytest.fixture
def endless_url():
    with ThreadingHTTPServer(("127.0.0.1", 0), _Endless) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def test_an_interrupt_ends_everyones_work_after_the_answer_they_are_at(endless_url, letters):
    def interrupt(done):
        if done == 20:
            os.kill(os.getpid(), signal.SIGINT)  # Ctrl-C reaches the main thread

    crowd = Crowd(endless_url, "admin@example.com", "password", PEOPLE)
    rng = np.random.default_rng(0)
    hand = choosing_hand(lambda _: ARRIVAL, letters.task.labeling, "abc")
    with pytest.raises(KeyboardInterrupt):
        crowd.work(1, hand, rng, interrupt)
    given = _Endless.num_given
    time.sleep(0.3)
    assert _Endless.num_given == given >= 20  # nobody is at work any more
