"""However many callers send at once, only a few samples are decoded at once: one may take a hundred times its bytes."""

import os
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest

BUSY = {"now": 0, "most": 0}


@pytest.fixture
def task(task):
    """The same, which counts how many decode at once."""
    lock = threading.Lock()

    def inputs(samples):
        with lock:
            BUSY["now"] += 1
            BUSY["most"] = max(BUSY.values())
        time.sleep(0.02)
        with lock:
            BUSY["now"] -= 1
        return task.inputs(samples)

    return replace(task, inputs=inputs)


def test_few_samples_are_decoded_at_once(server, predict):
    with ThreadPoolExecutor(16) as callers:
        answers = list(callers.map(lambda number: predict(server, number % 9 + 1.0), range(48)))
    assert {answer.status_code for answer in answers} == {200}
    assert 1 <= BUSY["most"] <= min(4, os.cpu_count() or 1)
