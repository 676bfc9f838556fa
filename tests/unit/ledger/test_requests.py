"""How many answers each night asked for, and which of them Label Studio is still to be told of."""

import pytest
from sqlalchemy import select, update

from flywheel.ledger.campaigns import lose_campaign
from flywheel.ledger.outbox import set_aside, waiting
from flywheel.ledger.requests import (
    answers_asked,
    ask_more,
    asked_besides,
    finish_requests,
    open_requests,
)
from flywheel.ledger.tables import labeling_tasks, requests
from flywheel.records import Purpose

CHOICE, GOLD, REVIEW = Purpose.CHOICE, Purpose.GOLD, Purpose.REVIEW


@pytest.fixture
def connection(ledger):
    with ledger.begin() as connection:
        yield connection


@pytest.fixture
def more(ledger, crew):
    """Ask one more person about samples."""

    def run(*sample_ids, purpose=CHOICE, night=0, reason="disputed"):
        with ledger.begin() as connection:
            ask_more(connection, list(sample_ids), purpose, reason, night, crew.now)

    return run


@pytest.fixture
def read(ledger):
    def run(function, *arguments):
        with ledger.begin() as connection:
            return function(connection, *arguments)

    return run


@pytest.fixture
def tell(ledger, crew):
    """Label Studio is told of all that is open; who is asked in all, by sample."""

    def run():
        with ledger.begin() as connection:
            wanted = open_requests(connection)
            finish_requests(connection, wanted, crew.now)
        return {one.sample_id: one.num_annotators for one in wanted}

    return run


@pytest.fixture
def finish(ledger):
    """Everything that is with people is done."""

    def run():
        with ledger.begin() as connection:
            sent = labeling_tasks.c.state == "sent"
            connection.execute(update(labeling_tasks).where(sent).values(state="done"))

    return run


def test_a_nights_answers_are_those_of_its_labeling_tasks_and_of_its_requests(crew, more, read):
    ids = crew.ask(3, num_annotators=2, night=1)
    crew.ask(1, num_annotators=5, night=2)
    crew.ask(ids[:1], num_annotators=3, purpose=GOLD, night=1)
    more(*ids, night=2)
    assert [read(answers_asked, night) for night in range(4)] == [0, 9, 8, 0]


@pytest.mark.parametrize("state", ["refused", "withdrawn"])
def test_what_nobody_is_asked_after_all_is_given_back(state, crew, read, ledger):
    one, _ = crew.ask(2, num_annotators=2, night=1)
    with ledger.begin() as connection:
        mine = labeling_tasks.c.sample_id == one
        key = connection.execute(select(labeling_tasks.c.key).where(mine)).scalar_one()
        set_aside(connection, {key: "no longer"}, crew.now, state)
    assert read(answers_asked, 1) == 2


def test_what_was_asked_besides_is_told_by_purpose_and_reason(crew, more, read):
    ids = crew.ask(4, num_annotators=2, night=1)
    crew.ask(ids[:2], num_annotators=3, purpose=GOLD, night=1)
    crew.ask(ids[2:3], purpose=REVIEW, night=1)
    more(*ids[:3], night=1)
    more(ids[3], night=1, reason="suspect")
    more(ids[3], night=2, reason="suspect")
    assert read(asked_besides, 1) == {"gold": 6, "review": 1, "disputed": 3, "suspect": 1}


def test_asking_nobody_asks_nothing(more, read):
    more()
    assert read(open_requests) == []


def test_a_request_tells_how_many_are_asked_in_all_until_label_studio_knows(crew, more, tell):
    one, two = crew.ask(2, num_annotators=2)
    more(one)
    more(one)
    more(two)
    assert tell() == {one: 4, two: 3}
    assert tell() == {}
    more(one)
    assert tell() == {one: 5}


def test_a_request_that_comes_while_label_studio_is_told_stays_open(crew, more, read):
    (one,) = crew.ask(1)
    more(one)
    before = read(open_requests)
    more(one)
    read(finish_requests, before, crew.now)
    assert [request.num_annotators for request in read(open_requests)] == [3]


def test_what_was_done_is_with_annotators_again(crew, more, tell, finish, read):
    (one,) = crew.ask(1)
    finish()
    more(one)
    tell()
    query = select(labeling_tasks.c.state)
    assert read(lambda connection: connection.execute(query).scalars().all()) == ["sent"]


def test_of_what_waits_and_of_what_is_set_aside_label_studio_is_not_reported(
    crew, more, tell, ledger
):
    (one,) = crew.ask(1, sent=False)
    (two,) = crew.ask(1)
    more(one)
    more(two)
    with ledger.begin() as connection:
        mine = labeling_tasks.c.sample_id == two
        connection.execute(update(labeling_tasks).where(mine).values(state="refused"))
    assert tell() == {}


def test_purposes_are_asked_about_apart(crew, more, read):
    (one,) = crew.ask(1)
    crew.ask([one], purpose=REVIEW)
    more(one, purpose=REVIEW)
    ((purpose, num_annotators),) = [
        (one.purpose, one.num_annotators) for one in read(open_requests)
    ]
    assert (purpose, num_annotators) == (REVIEW, 2)


def test_what_was_told_to_a_project_that_is_gone_is_told_to_the_next_one(crew, more, tell, read):
    (one,) = crew.ask(1)
    more(one)
    tell()
    read(lose_campaign, 1)
    assert tell() == {}
    (row,) = read(waiting)
    assert (row.sample_id, row.campaign, row.key) == (one, None, None)
    undone = select(requests.c.done_at)
    assert read(lambda connection: connection.execute(undone).scalars().all()) == [None]


@pytest.mark.parametrize("lost_first", [False, True])
def test_whoever_is_to_be_asked_besides_in_a_project_that_is_gone_is_asked_elsewhere(
    lost_first, crew, more, tell, finish, read
):
    """Its number may be that of another labeling task by now."""
    one, _ = crew.ask(2)
    crew.answer(one, "ann")
    finish()
    if lost_first:
        read(lose_campaign, 1)
    more(one)
    if not lost_first:
        read(lose_campaign, 1)
    assert tell() == {}
    assert [(row.sample_id, row.num_annotators) for row in read(waiting)] == [(one, 1)]
