"""What people were asked for, and what of it is still to come."""

import pytest

from flywheel.ledger.campaigns import lose_campaign
from flywheel.ledger.outbox import set_aside, update_by_key
from flywheel.ledger.requests import (
    answers_open,
    ask_more,
    asked_in,
    finish_requests,
    open_requests,
)
from flywheel.ledger.tables import labeling_tasks
from flywheel.records import Purpose


@pytest.fixture
def still_open(ledger):
    def run():
        with ledger.read() as connection:
            return answers_open(connection)

    return run


@pytest.fixture
def change(ledger):
    def run(function, *arguments):
        with ledger.begin() as connection:
            return function(connection, *arguments)

    return run


def finish(connection, samples):
    done = labeling_tasks.c.sample_id.in_(samples)
    connection.execute(labeling_tasks.update().where(done).values(state="done"))


def test_nothing_is_open_before_anybody_is_asked(still_open):
    assert still_open() == {}


def test_what_waits_and_what_is_with_annotators_is_open_by_purpose(crew, still_open):
    crew.ask(2, num_annotators=3)
    crew.ask(1, num_annotators=2, sent=False)
    crew.ask(1, purpose=Purpose.REVIEW)
    assert still_open() == {Purpose.CHOICE: 8, Purpose.REVIEW: 1}


def test_an_answer_that_came_is_open_no_longer_a_skip_or_a_deleted_one_is(crew, still_open):
    [sample] = crew.ask(1, num_annotators=3)
    crew.answer(sample, "ada")
    crew.answer(sample, "ben", skipped=True)
    gone = crew.answer(sample, "cleo")
    crew.remove(sample, gone)
    assert still_open() == {Purpose.CHOICE: 2}


def test_a_refused_annotation_came_all_the_same(crew, still_open):
    [sample] = crew.ask(1, num_annotators=2)
    crew.answer(sample, "ada", refused="two choices")
    assert still_open() == {Purpose.CHOICE: 1}


def test_more_annotators_than_asked_leave_nothing_open_and_owe_nothing(crew, still_open):
    one, two = crew.ask(2)
    crew.answer(one, "ada")
    crew.answer(one, "ben")
    assert still_open() == {Purpose.CHOICE: 1}
    crew.answer(two, "ada")
    assert still_open() == {}


def test_a_second_opinion_opens_what_was_done_before_and_after_it_is_reported(
    crew, still_open, change
):
    [sample] = crew.ask(1)
    crew.answer(sample, "ada")
    change(finish, [sample])
    assert still_open() == {}
    change(ask_more, [sample], Purpose.CHOICE, "unsure", 1, crew.now)
    assert still_open() == {Purpose.CHOICE: 1}
    change(finish_requests, change(open_requests), crew.now)
    assert still_open() == {Purpose.CHOICE: 1}
    crew.answer(sample, "ben")
    assert still_open() == {}


@pytest.mark.parametrize("state", ["refused", "withdrawn"])
def test_what_was_taken_out_owes_nothing(crew, still_open, change, state):
    crew.ask(2)
    with crew.ledger.read() as connection:
        key = connection.execute(labeling_tasks.select()).first().key
    change(set_aside, {key: "broken"}, crew.now, state)
    assert still_open() == {Purpose.CHOICE: 1}
    with crew.ledger.read() as connection:
        assert asked_in(connection, 0) == {Purpose.CHOICE: 1}


def test_of_a_lost_project_everybody_is_asked_anew(crew, still_open, change):
    [sample] = crew.ask(1, num_annotators=3)
    crew.answer(sample, "ada")
    change(lose_campaign, 1)
    assert still_open() == {Purpose.CHOICE: 3}


def test_a_moved_number_is_another_place(crew, still_open, change):
    [sample] = crew.ask(1, num_annotators=2)
    crew.answer(sample, "ada")
    with crew.ledger.read() as connection:
        key = connection.execute(labeling_tasks.select()).first().key
    change(update_by_key, {"external_id": 999}, {key: None})
    assert still_open() == {Purpose.CHOICE: 2}


def test_a_night_owns_what_it_asked_first_and_later(crew, change):
    [sample] = crew.ask(1, num_annotators=2, night=4)
    crew.ask(1, night=5)
    crew.ask(1, purpose=Purpose.GOLD, num_annotators=3, night=5)
    change(ask_more, [sample], Purpose.CHOICE, "unsure", 5, crew.now)
    assert change(asked_in, 4) == {Purpose.CHOICE: 2}
    assert change(asked_in, 5) == {Purpose.CHOICE: 2, Purpose.GOLD: 3}
    assert change(asked_in, 6) == {}
