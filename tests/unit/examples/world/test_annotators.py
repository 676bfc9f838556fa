"""Simulated people stop when they are asked to; what they do all day is in tests/integration."""

import json
import os
import signal
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest

from flywheel.examples.annotators import Crowd, Person, _Stack, choosing_hand
from flywheel.examples.traffic import Arrival

ANNOTATORS = [Person(email=f"{name}@example.com", password="password") for name in "abc"]
ARRIVAL = Arrival(payload=b"x", media_type="text/plain", metadata={}, truth="b")


class _Endless(BaseHTTPRequestHandler):
    """A labeling server that has more labeling tasks than anybody waits for."""

    num_given = 0

    def do_GET(self):
        if "page=" not in self.path or "page=1&" in self.path:
            self._say(200, {"tasks": [_open(number) for number in range(1, 2001)]})
        else:
            self._say(404, {})

    def do_POST(self):
        self.rfile.read(int(self.headers["Content-Length"]))
        if "annotations" in self.path:
            _Endless.num_given += 1
        self._say(302 if "login" in self.path else 201, {})

    def _say(self, status, body):
        self.send_response(status)
        self.send_header("Set-Cookie", "csrftoken=token; Path=/")
        self.end_headers()
        self.wfile.write(json.dumps(body).encode())

    def log_message(self, *_):
        """Say nothing: it would land in the tests' output."""


def _open(number, overlap=1, annotations=()):
    data = {"sample_id": f"sample {number}", "image": "/picture"}
    rest = {"predictions": [], "overlap": overlap, "annotations": list(annotations)}
    return {"id": number, "data": data, **rest}


@pytest.fixture
def endless_url():
    with ThreadingHTTPServer(("127.0.0.1", 0), _Endless) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def test_an_interrupt_ends_everyones_work_after_the_answer_they_are_at(endless_url, letters):
    def interrupt(done):
        if done == 20:
            os.kill(os.getpid(), signal.SIGINT)  # Ctrl-C reaches the main thread

    crowd = Crowd(endless_url, "admin@example.com", "password", ANNOTATORS)
    rng = np.random.default_rng(0)
    hand = choosing_hand(lambda _: ARRIVAL, letters.task.labeling, "abc")
    with pytest.raises(KeyboardInterrupt):
        crowd.work(1, hand, rng, interrupt)
    given = _Endless.num_given
    time.sleep(0.3)
    assert _Endless.num_given == given >= 18  # no annotator is at work any more; a few are put off


def test_a_labeling_task_is_given_to_as_many_annotators_as_it_wants_and_to_none_twice():
    by_c = {"was_cancelled": False, "created_username": " c@example.com, 3"}
    stack = _Stack()
    stack.fill([_open(1), _open(2, overlap=2), _open(3, overlap=2, annotations=[by_c])])
    taken = [stack.take("a", set()), stack.take("c@example.com", set()), stack.take("b", {1})]
    assert [task["id"] for task in taken] == [3, 1, 2]
    assert stack.take("c@example.com", {1})["id"] == 2
    assert stack.take("d", set()) is None


def test_what_one_annotator_puts_back_another_gets():
    stack = _Stack()
    stack.fill([_open(1)])
    stack.put_back(stack.take("a", set()))
    assert (stack.take("a", {1}), stack.take("b", set())["id"]) == (None, 1)
