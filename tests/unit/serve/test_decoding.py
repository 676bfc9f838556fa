"""However many callers send at once, only a few samples are decoded at once: one may take a hundred times its bytes."""

import os
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest

from flywheel.errors import PayloadError

BUSY = {"now": 0, "most": 0}
REFUSED = set[bytes]()


@pytest.fixture
def task(task):
    """The same, which counts how many decode at once, and accepts not everything."""
    lock = threading.Lock()

    def inputs(samples):
        with lock:
            BUSY["now"] += 1
            BUSY["most"] = max(BUSY.values())
        time.sleep(0.02)
        with lock:
            BUSY["now"] -= 1
        return task.inputs(samples)

    def accepts(sample):
        if sample.payload in REFUSED:
            raise PayloadError("the row has no 'age'. Send every field")

    return replace(task, inputs=inputs, accepts=accepts)


def test_few_samples_are_decoded_at_once(server, predict):
    with ThreadPoolExecutor(16) as callers:
        answers = list(callers.map(lambda number: predict(server, number % 9 + 1.0), range(48)))
    assert {answer.status_code for answer in answers} == {200}
    assert 1 <= BUSY["most"] <= min(4, os.cpu_count() or 1)


def test_what_the_task_does_not_accept_is_refused_at_the_door_and_nowhere_else(
    server, predict, pairs
):
    stored = predict(server, 7.0).json()
    REFUSED.add(pairs(7.0))
    refused = predict(server, 7.0)
    assert refused.status_code == 422
    assert refused.json()["detail"] == "the row has no 'age'. Send every field"
    assert predict(server, 8.0).status_code == 200
    asked = {"digest": stored["model_digest"], "sample_ids": [stored["sample_id"]]}
    assert server.post("/model/canary", json=asked).json()[0]["answer"] == stored["answer"]
