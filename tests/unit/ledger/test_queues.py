"""How the queue and the campaigns stand, and what people said of gold samples."""

import pytest
from sqlalchemy import update

from flywheel.ledger.progress import count_by_campaign, count_reviews, gold_answers, measure_queue
from flywheel.ledger.tables import labeling_tasks
from flywheel.records import Purpose


@pytest.fixture
def read(ledger):
    def run(function, *arguments):
        with ledger.read() as connection:
            return function(connection, *arguments)

    return run


def test_an_empty_ledger_has_an_empty_queue(read):
    assert read(measure_queue) == (0, 0, None, None)
    assert read(count_by_campaign) == {}
    assert read(count_reviews) == {}
    assert read(gold_answers, 10) == []


def test_the_queue_is_what_waits_and_what_is_with_people(read, crew, ledger):
    crew.ask(2, sent=False)
    done, *_ = crew.ask(3)
    with ledger.begin() as connection:
        mine = labeling_tasks.c.sample_id == done
        connection.execute(update(labeling_tasks).where(mine).values(state="done"))
    queue = read(measure_queue)
    assert (queue.num_waiting, queue.num_sent) == (2, 2)
    assert (queue.oldest, queue.priority) == (crew.now, 0.5)


def test_campaigns_count_their_states_and_experts_theirs(read, crew):
    crew.ask(3)
    crew.ask(2, purpose=Purpose.REVIEW)
    crew.ask(1, sent=False)
    assert read(count_by_campaign) == {1: {"sent": 3}, 2: {"sent": 2}}
    assert read(count_reviews) == {"sent": 2}


def test_gold_answers_stand_beside_what_is_known(read, crew):
    one, two, three = crew.ask(3, purpose=Purpose.GOLD, num_annotators=3)
    crew.label([one, two], answer="cat")
    crew.label([two], answer=None)
    crew.answer(one, "ada", purpose=Purpose.GOLD)
    crew.answer(one, "ben", purpose=Purpose.GOLD, answer="dog")
    crew.answer(one, "cleo", purpose=Purpose.GOLD, skipped=True)
    crew.answer(two, "ada", purpose=Purpose.GOLD)
    crew.answer(three, "ada", purpose=Purpose.GOLD)
    assert read(gold_answers, 10) == [("ben", "dog", "cat"), ("ada", "cat", "cat")]
