import logging
import threading
from concurrent.futures import ThreadPoolExecutor
from heapq import heappop, heappush
from queue import Queue

import pytest

from flywheel.serve.events import Debouncer, Listeners


class Time:
    """A clock that moves only during pauses; what is planned happens meanwhile."""

    def __init__(self):
        self.now = 0.0
        self.plan = []

    def clock(self):
        return self.now

    def at(self, second, do):
        heappush(self.plan, (second, len(self.plan), do))

    def pause(self, seconds):
        end = self.now + seconds
        while self.plan and self.plan[0][0] <= end:
            self.now, _, do = heappop(self.plan)
            do()
        self.now = end


@pytest.fixture
def time():
    return Time()


@pytest.fixture
def made():
    """(second, number of events) of each call."""
    return Queue()


@pytest.fixture
def debouncer(time, made):
    """They live in `time`, and a call of theirs takes a second."""

    def notify(number):
        made.put((time.now, number))
        time.pause(1)

    debouncer = Debouncer(notify, seconds=60, quiet=5, clock=time.clock, pause=time.pause)
    yield debouncer
    debouncer.close()


def calls(made, count):
    """The calls so far, when there are that many."""
    while made.qsize() < count:
        threading.Event().wait(0.005)
    return list(made.queue)


def test_a_burst_of_ten_thousand_events_makes_one_call_when_it_is_over(debouncer, made, time):
    for number in range(1, 10_000):
        time.at(number / 10_000, debouncer.add)
    debouncer.add()
    assert calls(made, 1) == [(pytest.approx(5.9999), 10_000)]


def test_events_from_many_threads_make_one_call_and_none_is_lost(made):
    debouncer = Debouncer(made.put, seconds=3600, quiet=3600)
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda _: debouncer.add(), range(10_000)))
    debouncer.close()
    assert list(made.queue) == [10_000]


def test_a_burst_that_goes_on_makes_a_call_a_minute_and_one_after_its_last_event(
    debouncer, made, time
):
    for second in range(1, 151):
        time.at(second, debouncer.add)
    debouncer.add()
    assert calls(made, 3) == [(60, 61), (121, 61), (181, 29)]


def test_after_a_quiet_minute_the_next_event_makes_a_call_as_soon_as_it_is_alone(
    debouncer, made, time
):
    debouncer.add()
    calls(made, 1)
    while time.now < 6:  # the call still runs
        threading.Event().wait(0.005)
    time.now = 70.0
    debouncer.add()
    assert calls(made, 2) == [(5, 1), (75, 1)]


def test_events_of_a_call_that_fails_go_into_the_next_with_those_since(time, made, caplog):
    def notify(number):
        if time.now < 100:
            time.at(time.now + 1, debouncer.add)
            raise ConnectionError(f"no listener for {number}")
        made.put((time.now, number))

    debouncer = Debouncer(notify, seconds=60, quiet=0, clock=time.clock, pause=time.pause)
    with caplog.at_level(logging.ERROR, logger="flywheel.serve.events"):
        debouncer.add()
        assert calls(made, 1) == [(120.0, 3)]
    assert [record.exc_info[1].args for record in caplog.records] == [
        ("no listener for 1",),
        ("no listener for 2",),
    ]
    debouncer.close()


def test_at_the_end_what_waits_for_its_minute_makes_a_call_at_once(made):
    debouncer = Debouncer(made.put, seconds=3600, quiet=0)
    debouncer.add()
    assert made.get(timeout=30) == 1
    debouncer.add()
    debouncer.add()
    debouncer.close()
    assert made.get_nowait() == 2


def test_what_fails_at_the_end_is_tried_once_more_and_then_given_up():
    begun, go_on, tried = threading.Event(), threading.Event(), []

    def notify(number):
        tried.append(number)
        begun.set()
        go_on.wait(30)
        raise ConnectionError("no listener")

    debouncer = Debouncer(notify, seconds=3600, quiet=0)
    debouncer.add()
    assert begun.wait(30)
    debouncer.add()
    threading.Timer(0.05, go_on.set).start()
    debouncer.close()
    debouncer.close()
    assert tried == [1, 2]


def test_adding_an_event_never_waits_for_the_call(made):
    go_on = threading.Event()
    debouncer = Debouncer(lambda number: (go_on.wait(30), made.put(number)), seconds=0, quiet=0)
    for _ in range(3):
        debouncer.add()
    assert made.empty()
    go_on.set()
    debouncer.close()
    assert sum(made.queue) == 3


def hard_samples(notify):
    return Debouncer(notify, at_least=2, seconds=0, quiet=0)


def test_fewer_events_than_wanted_make_no_call_not_even_at_the_end(made):
    debouncer = hard_samples(made.put)
    debouncer.add(1)
    debouncer.add(0)
    debouncer.close()
    assert made.empty()


def test_while_a_call_runs_the_count_goes_on_and_goes_into_the_next_call(made):
    go_on = threading.Event()
    debouncer = hard_samples(lambda number: (made.put(number), go_on.wait(30)))
    debouncer.add(2)
    assert made.get(timeout=30) == 2
    debouncer.add(2)
    debouncer.add(1)
    go_on.set()
    assert made.get(timeout=30) == 3
    debouncer.close()


def test_a_call_that_fails_is_made_again_a_minute_later_even_without_a_pause(made, time):
    def notify(number):
        made.put((time.now, number))
        if time.now < 60:
            raise ConnectionError("Prefect does not answer")

    debouncer = Debouncer(
        notify, at_least=2, seconds=0, quiet=0, clock=time.clock, pause=time.pause
    )
    debouncer.add(2)
    assert calls(made, 2) == [(0, 2), (60, 2)]
    debouncer.close()


def test_a_full_count_of_hard_predictions_makes_one_call(release, serve, predict, made):
    release(0.0)
    client = serve(listeners=Listeners(on_hard_samples=made.put))
    for confidence in (0.1, 0.9, 0.2, 0.8, 0.71):
        predict(client, 1.0, confidence)
    assert made.empty()
    predict(client, 1.0, 0.3)
    assert made.get(timeout=30) == 3


def test_a_confidence_at_the_limit_is_not_hard(release, serve, predict, made, project):
    release(0.0)
    half = project.collect.model_copy(update={"low_confidence": 0.5})
    client = serve(
        project.model_copy(update={"collect": half}),
        listeners=Listeners(on_hard_samples=made.put),
    )
    for confidence in (0.5, 0.25, 0.25):
        predict(client, 1.0, confidence)
    assert made.empty()


def test_a_listener_that_fails_is_logged_and_breaks_nothing(release, serve, predict, caplog):
    def fail(count):
        raise RuntimeError(f"no listener for {count}")

    release(0.0)
    client = serve(listeners=Listeners(on_hard_samples=fail))
    with caplog.at_level(logging.ERROR, logger="flywheel.serve.events"):
        assert all(predict(client, 1.0, 0.1).is_success for _ in range(8))
    assert "serving continues" in caplog.text
