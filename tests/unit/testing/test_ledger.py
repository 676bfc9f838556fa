"""The builder of pasts writes what the product reads."""

import contextlib

import pytest
from sqlalchemy import func, select

from flywheel.ledger.annotations import annotations_of
from flywheel.ledger.datasets import latest_version
from flywheel.ledger.tables import labeling_tasks, predictions
from flywheel.records import Purpose, Split
from flywheel.testing import LedgerBuilder, row_of


@pytest.fixture
def past(ledger):
    return LedgerBuilder(ledger)


def test_deeds_at_once_are_all_there_or_none_is(past):
    with contextlib.suppress(KeyError), past.at_once():
        past.predict(0.5)
        past.answer("never asked", "ada")
    with past.ledger.read() as connection:
        assert connection.execute(select(func.count()).select_from(predictions)).scalar_one() == 0


def test_deeds_inside_others_are_in_the_same_transaction(past):
    with past.at_once() as connection:
        (sample_id,) = past.ask(1)
        past.answer(sample_id, "ada", answer="dog")
        (found,) = annotations_of(connection, [sample_id])
    assert (found.annotator, found.answer) == ("ada", "dog")


def test_an_answer_that_was_removed_stands_no_longer(past):
    (sample_id,) = past.ask(1, purpose=Purpose.REVIEW)
    name = past.answer(sample_id, "ada", purpose=Purpose.REVIEW)
    past.remove(sample_id, name, Purpose.REVIEW)
    with past.ledger.read() as connection:
        assert annotations_of(connection, [sample_id]) == []


def test_rows_of_a_version_are_counted_by_their_part(past):
    first = past.version()
    start = row_of("c", split=Split.TEST, origin="start")
    made = past.version([row_of("a"), row_of("b", split=Split.TEST), start])
    assert (made.num_train, made.num_test, made.num_start_test) == (1, 1, 1)
    assert made.parent_id == first.id
    with past.ledger.read() as connection:
        assert latest_version(connection) == made


def test_labeling_tasks_are_numbered_on_unless_a_first_number_is_given(past):
    sent = past.ask(2)
    late = past.ask(2, sent=False)
    past.send(late, first=40)
    query = select(labeling_tasks.c.sample_id, labeling_tasks.c.external_id)
    with past.ledger.read() as connection:
        numbers = dict(connection.execute(query).all())
    assert [numbers[one] for one in sent + late] == [1, 2, 40, 41]
