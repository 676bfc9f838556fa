"""What the site keeps: the first who looks does not wait, and what is old is shown as old."""

import itertools
import threading
import time
from contextlib import closing

import pytest
from worlds.pages import client_of

from flywheel.errors import UserError
from flywheel.report.site import home, kept
from flywheel.testing import LedgerBuilder, open_memory, toy_task

SECONDS = 10.0
ANEW = "it is being read anew"


@pytest.fixture
def values():
    with closing(kept.Kept()) as values:
        yield values


@pytest.fixture
def numbers():
    return itertools.count(1).__next__


@pytest.fixture
def ages(monkeypatch):
    """Nothing is young enough to be shown without another look."""
    monkeypatch.setattr(kept, "_KEPT_SECONDS", -1.0)


def until(holds):
    ends = time.monotonic() + SECONDS
    while not holds():
        assert time.monotonic() < ends
        time.sleep(0.01)


def test_what_is_young_is_read_once(values, numbers):
    assert [values.get("a", numbers) for _ in range(3)] == [(1, False)] * 3
    assert values.get("b", numbers) == (2, False)


def test_what_is_old_is_read_anew_where_it_takes_no_time(values, numbers, ages):
    assert [values.get("a", numbers) for _ in range(3)] == [(1, False), (2, False), (3, False)]


def test_what_takes_long_is_shown_as_old_until_it_is_read(values, numbers, ages):
    goes_on = threading.Event()

    def slow():
        assert goes_on.wait(SECONDS)
        return numbers()

    values.get("a", numbers)
    began = time.monotonic()
    assert [values.get("a", slow) for _ in range(2)] == [(1, True), (1, True)]
    assert time.monotonic() - began < SECONDS / 2
    goes_on.set()
    until(lambda: values.get("a", lambda: "none") != (1, True))
    assert numbers() == 3, "two who asked at the same time had it read twice"


def test_a_fault_is_raised_and_not_kept(values, numbers):
    def fails():
        raise UserError("It is broken.")

    with pytest.raises(UserError):
        values.get("a", fails)
    assert values.get("a", numbers) == (1, False)


def test_pages_are_read_at_the_start_and_when_the_mark_changes(values, numbers, monkeypatch):
    monkeypatch.setattr(kept, "_LOOK_SECONDS", 0.01)
    mark, looks = [1], itertools.count()
    read = []

    def look():
        next(looks)
        return mark[0]

    values.follow(look, [lambda: read.append(values.get("a", numbers))])
    until(lambda: read == [(1, False)])
    before = next(looks)
    until(lambda: next(looks) > before + 10)
    assert read == [(1, False)]
    mark[0] = 2
    until(lambda: read == [(1, False), (2, False)])


def test_a_fault_of_a_look_ends_no_looking(values, numbers, monkeypatch):
    monkeypatch.setattr(kept, "_LOOK_SECONDS", 0.01)
    marks = iter([OSError("gone"), UserError("Busy.")])
    read = []

    def look():
        for fault in marks:
            raise fault
        return 1

    values.follow(look, [lambda: read.append(values.get("a", numbers))])
    until(lambda: read == [(1, False)])


@pytest.fixture
def project(tmp_path):
    with open_memory(toy_task(), tmp_path) as project:
        yield project


@pytest.fixture
def assessed(monkeypatch):
    """The times at which the page of what it still takes was read."""
    times, assess = [], home.assess

    def counted(*given):
        times.append(time.monotonic())
        return assess(*given)

    monkeypatch.setattr(home, "assess", counted)
    return times


def test_a_server_reads_before_it_is_asked_and_again_after_a_night(project, assessed, monkeypatch):
    monkeypatch.setattr(kept, "_LOOK_SECONDS", 0.01)
    past = LedgerBuilder(project.loop.ledger, project.loop.blobs)
    with client_of(project.loop) as client:
        until(lambda: len(assessed) == 1)
        past.night()
        assert client.get("/pages/assess").status_code == 200
        assert len(assessed) == 1
        past.end(1)
        until(lambda: len(assessed) == 2)


def test_the_pages_say_when_what_they_show_is_old(project, ages, monkeypatch):
    client = client_of(project.loop)
    pages = ("/pages/assess", "/pages/annotators")
    assert not any(ANEW in client.get(page).text for page in pages)
    goes_on, read = threading.Event(), home.read_labeling

    def slow(*given):
        assert goes_on.wait(SECONDS)
        return read(*given)

    monkeypatch.setattr(home, "read_labeling", slow)
    assert all(ANEW in client.get(page).text for page in pages)
    goes_on.set()
    until(lambda: not any(ANEW in client.get(page).text for page in pages))
