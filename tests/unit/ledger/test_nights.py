from contextlib import suppress
from datetime import timedelta

import pytest

from flywheel.ledger.nights import (
    FinishedStep,
    add_skip,
    current_night_number,
    finish_night,
    finish_step,
    finished_steps,
    last_night,
    night_of_slot,
    open_night,
    skips_of,
)


@pytest.fixture
def connection(ledger):
    with ledger.begin() as connection:
        yield connection


@pytest.fixture
def now(production):
    return production.now


def step(name, result=None):
    return FinishedStep(name, {"n": result}, 1.5)


def test_nights_count_from_1_without_a_gap(connection, now):
    for number in (1, 2, 3):
        assert open_night(connection, now).number == number
        finish_night(connection, number, now)


def test_a_night_that_was_cut_off_is_continued_with_its_own_start(connection, now):
    first = open_night(connection, now)
    assert open_night(connection, now + timedelta(hours=3)) == first


def test_the_budget_is_that_of_the_open_night_else_of_the_one_to_come(connection, now):
    numbers = [current_night_number(connection)]
    open_night(connection, now)
    numbers.append(current_night_number(connection))
    finish_night(connection, 1, now)
    assert [*numbers, current_night_number(connection)] == [1, 1, 2]


def test_a_night_is_finished_once(connection, now):
    open_night(connection, now)
    finish_night(connection, 1, now)
    finish_night(connection, 1, now + timedelta(days=1))
    assert last_night(connection).finished_at == now


def test_finished_steps_survive_a_rolled_back_one_and_keep_their_order(ledger, now):
    for minute, name in enumerate(["deploy", "collect", "route"]):
        with ledger.begin() as connection:
            open_night(connection, now)
            finish_step(connection, 1, step(name, minute), now + timedelta(minutes=minute))
    with suppress(ZeroDivisionError), ledger.begin() as connection:
        finish_step(connection, 1, step("ingest"), now)
        raise ZeroDivisionError
    with ledger.read() as connection:
        assert list(finished_steps(connection, 1)) == ["deploy", "collect", "route"]
        assert finished_steps(connection, 1)["route"] == step("route", 2)
        assert finished_steps(connection, 2) == {}


def test_of_a_step_that_was_done_again_the_new_result_counts(connection, now):
    open_night(connection, now)
    finish_step(connection, 1, step("train", 1), now)
    finish_step(connection, 1, step("train", 2), now)
    assert finished_steps(connection, 1) == {"train": step("train", 2)}


def test_the_same_skip_is_noted_once(connection, now):
    for night in (0, 0, 1):
        add_skip(connection, "sample 1", "unreadable", night, now)
    add_skip(connection, "sample 1", "too large", 0, now)
    assert skips_of(connection, 0) == [("sample 1", "unreadable"), ("sample 1", "too large")]
    assert skips_of(connection, 1) == []


def test_a_reason_or_subject_longer_than_its_column_is_cut_and_still_noted_once(connection, now):
    """PostgreSQL refuses what is longer; SQLite lets it through."""
    for _ in range(2):
        add_skip(connection, "s" * 300, "r" * 900, 0, now)
    assert skips_of(connection, 0) == [("s" * 200, "r" * 500)]


def test_a_night_that_was_cut_off_belongs_to_the_newest_slot_that_continues_it(connection, now):
    later = now + timedelta(days=1)
    assert open_night(connection, now, now).slot == now
    assert open_night(connection, later, later).slot == later
    assert open_night(connection, later, now).slot == later
    assert open_night(connection, later).slot == later


@pytest.mark.parametrize(
    ("slot", "finished", "had"),
    [
        (0, 1, True),  # its own
        (None, 1, True),  # begun by hand, and over after the slot's time
        (None, -1, False),
        (-24, 1, True),  # of another slot, and still under way at this one's time
        (None, 900, False),  # so says a clock that was wrong
        (0, 900, True),
        (0, None, False),  # cut off: it is continued
    ],
)
def test_a_slot_has_had_its_night(connection, now, slot, finished, had):
    hours = lambda number: None if number is None else now + timedelta(hours=number)  # noqa: E731
    open_night(connection, now, hours(slot))
    if finished is not None:
        finish_night(connection, 1, hours(finished))
    found = night_of_slot(connection, now, now + timedelta(hours=2))
    assert (found is not None) is had
