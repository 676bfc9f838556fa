import logging
import threading

import pytest

from flywheel.serve import Listeners
from flywheel.serve.notify import HardSamples


@pytest.fixture
def told():
    return []


def test_it_is_called_once_for_each_full_count_of_hard_predictions(release, serve, predict, told):
    release(0.0)
    arrived = threading.Event()
    tell = lambda count: (told.append(count), arrived.set())  # noqa: E731
    client = serve(listeners=Listeners(on_hard_samples=tell))
    for confidence in (0.1, 0.9, 0.2, 0.8, 0.71):
        predict(client, 1.0, confidence)
    assert told == []
    predict(client, 1.0, 0.3)
    assert arrived.wait(30)
    assert told == [3]


def test_a_confidence_at_the_limit_is_not_hard(told):
    hard = HardSamples(told.append, low_confidence=0.7, every=1)
    hard.stored([0.7, 0.9])
    hard.close()
    assert told == []


def test_while_a_call_runs_the_count_goes_on_and_nobody_waits(told):
    go_on = threading.Event()
    hard = HardSamples(lambda n: (told.append(n), go_on.wait(30)), low_confidence=0.5, every=2)
    hard.stored([0.1, 0.1])
    hard.stored([0.1, 0.1])
    hard.stored([0.1])
    go_on.set()
    hard.close()
    assert told == [2]


def test_a_call_that_fails_is_logged_and_breaks_nothing(release, serve, predict, caplog):
    def fail(count):
        raise RuntimeError(f"no one listens to {count}")

    release(0.0)
    client = serve(listeners=Listeners(on_hard_samples=fail))
    with caplog.at_level(logging.ERROR, logger="flywheel.serve.notify"):
        assert all(predict(client, 1.0, 0.1).is_success for _ in range(8))
    assert "serving goes on" in caplog.text
