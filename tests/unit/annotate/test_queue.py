"""The queue: hardest first, oldest not starved, and without what no longer matters."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flywheel.annotate import QueueResult, order_queue
from flywheel.annotate.queue import place
from flywheel.errors import UnavailableError
from flywheel.ledger.failures import count_failures
from flywheel.records import FailureState, Purpose

TODAY = datetime(2026, 3, 2, tzinfo=UTC)


@pytest.fixture
def order(letters, studio, now):
    """Order the queue by new hardness, some days from now."""

    def run(hardness=None, days=0, studio=studio):
        later = now + timedelta(days=days)
        return order_queue(letters.ledger, studio, hardness or {}, 7.0, later)

    return run


@given(
    priority=st.floats(0, 1),
    nights=st.floats(0, 1000),
    more=st.floats(0, 1000),
    half=st.floats(0.1, 100),
)
def test_waiting_only_ever_helps_and_nothing_gets_beyond_the_front(priority, nights, more, half):
    now, later = TODAY + timedelta(days=nights), TODAY + timedelta(days=nights + more)
    early, late = place(priority, TODAY, now, half), place(priority, TODAY, later, half)
    assert priority - 1e-12 <= early <= late + 1e-12 <= 1 + 1e-9


def test_half_the_way_to_the_front_after_so_many_nights():
    assert place(0.2, TODAY, TODAY, 7) == pytest.approx(0.2)
    assert place(0.2, TODAY, TODAY + timedelta(days=7), 7) == pytest.approx(0.6)
    assert place(0.2, TODAY, TODAY + timedelta(days=14), 7) == pytest.approx(0.8)


def test_what_came_on_one_day_keeps_its_order():
    later = TODAY + timedelta(days=30)
    places = [place(priority, TODAY, later, 7) for priority in (0.1, 0.5, 0.9)]
    assert places == sorted(places)


def test_an_easy_sample_passes_the_hard_ones_that_come_later():
    now = TODAY + timedelta(days=40)
    assert place(0.0, TODAY, now, 7) > place(0.9, now, now, 7)


@pytest.mark.parametrize("priority", [-1.0, 2.0])
def test_a_priority_outside_of_its_range_stays_within(priority):
    assert 0 <= place(priority, TODAY, TODAY, 7) <= 1


def test_a_clock_that_goes_back_makes_nothing_younger_than_new():
    assert place(0.3, TODAY, TODAY - timedelta(days=9), 7) == pytest.approx(0.3)


def test_what_has_grown_older_moves_and_small_changes_are_left(letters, studio, send_now, order):
    first, last = letters.choose(b"x1", b"x2")
    send_now()
    assert order(days=0) == QueueResult()
    assert order(days=7) == QueueResult(num_moved=1)
    assert studio.tasks[studio.find(first)].priority == 1.0
    moved = studio.tasks[studio.find(last)].priority
    assert 0.7 < moved < 0.8
    assert letters.rows()[last].place == moved
    assert letters.rows()[last].priority == 0.5
    assert order(days=7) == QueueResult()


def test_a_new_model_changes_the_order_of_what_is_open(letters, studio, send_now, order):
    first, last = letters.choose(b"x1", b"x2")
    send_now()
    assert order({first: 0.1, last: 0.9}).num_moved == 2
    priorities = [studio.tasks[studio.find(key)].priority for key in (first, last)]
    assert priorities[0] < 0.3
    assert priorities[1] > 0.8
    assert letters.rows()[first].priority == 0.1


def test_what_is_begun_stays_where_it_is(letters, studio, says, send_now, order):
    (sample_id,) = letters.choose(b"x1", num_annotators=2)
    send_now()
    says(sample_id, "a")
    assert order({sample_id: 0.0}) == QueueResult()
    assert order({sample_id: 0.1}) == QueueResult()
    assert studio.tasks[studio.find(sample_id)].priority == 1.0


def test_what_no_longer_matters_is_withdrawn(letters, studio, send_now, order):
    calm, hard = letters.choose(b"x1", b"x2")
    send_now()
    assert order({calm: 0.0, hard: 0.5}).num_withdrawn == 1
    assert [task.data["sample_id"] for task in studio.tasks.values()] == [hard]
    state, _, note = letters.tasks()[calm]
    assert (state, note.startswith("the model that serves now")) == ("withdrawn", True)
    with letters.ledger.read() as connection:
        assert count_failures(connection)[FailureState.SEEN] == 1
    assert (send_now().num_sent, len(studio.tasks)) == (0, 1)


def test_what_waits_is_ordered_and_withdrawn_without_a_server(letters, order):
    calm, hard = letters.choose(b"x1", b"x2")
    assert order({calm: 0.0, hard: 0.9}, studio=None) == QueueResult(num_withdrawn=1)
    assert letters.tasks()[calm][0] == "withdrawn"
    assert letters.rows()[hard].priority == 0.9


def test_what_is_with_annotators_stays_while_there_is_no_server(letters, send_now, order):
    (sample_id,) = letters.choose(b"x1")
    send_now()
    assert order({sample_id: 0.0}, studio=None) == QueueResult()
    assert letters.tasks()[sample_id][0] == "sent"


def test_what_a_killed_run_may_have_sent_is_not_withdrawn_behind_its_back(
    letters, studio, send_now, order
):
    """It was with annotators, and the ledger said that no annotator is asked."""
    (sample_id,) = letters.choose(b"x1")
    studio.breaks_after["push"] = UnavailableError("the answer got lost")
    with pytest.raises(UnavailableError):
        send_now()
    assert order({sample_id: 0.0}) == QueueResult()
    send_now()
    assert order({sample_id: 0.0}) == QueueResult(num_withdrawn=1)
    assert studio.tasks == {}


@pytest.mark.parametrize("hardness", [0.0, 0.9])
def test_what_a_killed_run_was_withdrawing_is_withdrawn(letters, studio, send_now, order, hardness):
    (sample_id,) = letters.choose(b"x1")
    send_now()
    studio.breaks_after["delete"] = KeyboardInterrupt()
    with pytest.raises(KeyboardInterrupt):
        order({sample_id: 0.0})
    assert order({sample_id: hardness}) == QueueResult(num_withdrawn=1)
    assert letters.tasks()[sample_id][0] == "withdrawn"


def test_what_was_begun_before_it_could_be_withdrawn_is_deleted_by_annotators_only(
    letters, studio, says, send_now, order, reconcile_now
):
    (sample_id,) = letters.choose(b"x1", num_annotators=2)
    send_now()
    says(sample_id, "a")
    assert order({sample_id: 0.0}) == QueueResult()
    studio.tasks.clear()
    assert reconcile_now().num_missing == 1


def test_what_has_the_number_of_a_deleted_one_is_not_withdrawn_in_its_place(
    letters, studio, send_now, order, reconcile_now
):
    """Numbers are given out again, and another labeling task was deleted."""
    (deleted,) = letters.choose(b"x1")
    send_now()
    number = studio.find(deleted)
    del studio.tasks[number]
    (other,) = letters.choose(b"x2")
    send_now()
    assert studio.find(other) == number
    assert order({deleted: 0.0}) == QueueResult()
    reconcile_now()
    assert (letters.tasks()[deleted][0], letters.tasks()[other][0]) == ("withdrawn", "sent")


def test_only_what_was_chosen_because_it_is_hard_is_withdrawn(letters, studio, send_now, order):
    """Gold samples measure annotators, and experts were asked for a reason."""
    (sample_id,) = letters.choose(b"x1")
    letters.ask([sample_id], Purpose.GOLD)
    letters.ask([sample_id], Purpose.REVIEW)
    send_now()
    assert order({sample_id: 0.0}) == QueueResult(num_withdrawn=1)
    asked = (Purpose.CHOICE, Purpose.GOLD, Purpose.REVIEW)
    left = [letters.tasks(purpose)[sample_id][0] for purpose in asked]
    assert left == ["withdrawn", "sent", "sent"]
    assert len(studio.tasks) == 2


def test_ordering_twice_changes_nothing_more(letters, studio, send_now, order):
    ids = letters.choose(b"x1", b"x2", b"x3")
    send_now()
    hardness = dict(zip(ids, (0.0, 0.3, 0.8), strict=True))
    order(hardness)
    assert order(hardness) == QueueResult()
