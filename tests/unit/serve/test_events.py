import logging
import threading
from concurrent.futures import ThreadPoolExecutor
from heapq import heappop, heappush
from queue import Queue

import pytest

from flywheel.serve.events import Hints


class Time:
    """A clock that moves only while somebody waits; what is planned happens meanwhile."""

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
def told():
    """(second, number of events) of each call."""
    return Queue()


@pytest.fixture
def hints(time, told):
    """They live in `time`, and a call of theirs takes a second."""

    def tell(number):
        told.put((time.now, number))
        time.pause(1)

    hints = Hints(tell, seconds=60, quiet=5, clock=time.clock, pause=time.pause)
    yield hints
    hints.close()


def calls(told, count):
    """The calls so far, when there are that many."""
    while told.qsize() < count:
        threading.Event().wait(0.005)
    return list(told.queue)


def test_a_burst_of_ten_thousand_events_is_told_once_when_it_is_over(hints, told, time):
    for number in range(1, 10_000):
        time.at(number / 10_000, hints.heard)
    hints.heard()
    assert calls(told, 1) == [(pytest.approx(5.9999), 10_000)]


def test_events_from_many_threads_are_told_in_one_call_and_none_is_lost(told):
    hints = Hints(told.put, seconds=3600, quiet=3600)
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda _: hints.heard(), range(10_000)))
    hints.close()
    assert list(told.queue) == [10_000]


def test_a_burst_that_goes_on_is_told_once_a_minute_and_after_its_last_event(hints, told, time):
    for second in range(1, 151):
        time.at(second, hints.heard)
    hints.heard()
    assert calls(told, 3) == [(60, 61), (121, 61), (181, 29)]


def test_after_a_quiet_minute_the_next_event_is_told_as_soon_as_it_is_alone(hints, told, time):
    hints.heard()
    calls(told, 1)
    while time.now < 6:  # the call still runs
        threading.Event().wait(0.005)
    time.now = 70.0
    hints.heard()
    assert calls(told, 2) == [(5, 1), (75, 1)]


def test_events_that_nobody_could_be_told_of_are_told_again_with_those_since(time, told, caplog):
    def tell(number):
        if time.now < 100:
            time.at(time.now + 1, hints.heard)
            raise ConnectionError(f"nobody there for {number}")
        told.put((time.now, number))

    hints = Hints(tell, seconds=60, quiet=0, clock=time.clock, pause=time.pause)
    with caplog.at_level(logging.ERROR, logger="flywheel.serve.events"):
        hints.heard()
        assert calls(told, 1) == [(120.0, 3)]
    assert [record.exc_info[1].args for record in caplog.records] == [
        ("nobody there for 1",),
        ("nobody there for 2",),
    ]
    hints.close()


def test_at_the_end_what_waits_for_its_minute_is_told_at_once(told):
    hints = Hints(told.put, seconds=3600, quiet=0)
    hints.heard()
    assert told.get(timeout=30) == 1
    hints.heard()
    hints.heard()
    hints.close()
    assert told.get_nowait() == 2


def test_what_fails_at_the_end_is_tried_once_more_and_then_given_up():
    begun, go_on, tried = threading.Event(), threading.Event(), []

    def tell(number):
        tried.append(number)
        begun.set()
        go_on.wait(30)
        raise ConnectionError("nobody there")

    hints = Hints(tell, seconds=3600, quiet=0)
    hints.heard()
    assert begun.wait(30)
    hints.heard()
    threading.Timer(0.05, go_on.set).start()
    hints.close()
    hints.close()
    assert tried == [1, 2]


def test_who_hears_an_event_never_waits_for_the_call(told):
    go_on = threading.Event()
    hints = Hints(lambda number: (go_on.wait(30), told.put(number)), seconds=0, quiet=0)
    for _ in range(3):
        hints.heard()
    assert told.empty()
    go_on.set()
    hints.close()
    assert sum(told.queue) == 3
