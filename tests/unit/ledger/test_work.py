"""What people did, as work: every annotation counts, deleted and skipped ones too."""

import pytest
from sqlalchemy import update

from flywheel.ledger.annotators import annotator_labels, recent_work
from flywheel.ledger.tables import annotations
from flywheel.records import Purpose, Split


@pytest.fixture
def read(ledger):
    def run(function, *arguments):
        with ledger.read() as connection:
            return function(connection, *arguments)

    return run


def test_nobody_has_worked_yet(read, crew):
    assert read(recent_work, 10) == []
    assert read(annotator_labels, []) == {}


def test_a_row_says_who_spent_how_much_on_what_and_who_asked(read, crew):
    [sample] = crew.ask(1, night=3)
    crew.answer(sample, "ada", 12.5)
    [row] = read(recent_work, 10)
    assert (row.annotator, row.sample_id, row.seconds) == ("ada", sample, 12.5)
    assert (row.purpose, row.split) == (Purpose.CHOICE, Split.TRAIN)
    assert (row.campaign, row.night, row.is_given) == (1, 3, True)


def test_skips_and_deleted_annotations_are_work_and_no_answers(read, crew):
    one, two, three = crew.ask(3)
    crew.answer(one, "ada", 1.0, skipped=True)
    gone = crew.answer(two, "ada", 2.0)
    crew.remove(two, gone)
    crew.answer(three, "ada", 4.0, refused="two choices")
    rows = read(recent_work, 10)
    assert [(row.seconds, row.is_given, row.is_answer) for row in rows] == [
        (1.0, False, False),
        (2.0, False, False),
        (4.0, True, False),
    ]


def test_only_the_newest_are_read_and_they_come_oldest_first(read, crew):
    for second, sample in enumerate(crew.ask(5)):
        crew.answer(sample, "ada", float(second))
    assert [row.seconds for row in read(recent_work, 3)] == [2.0, 3.0, 4.0]


def test_the_campaign_is_the_one_in_which_it_was_given(read, crew, ledger):
    [sample] = crew.ask(1)
    crew.answer(sample, "ada")
    with ledger.begin() as connection:
        connection.execute(update(annotations).values(labeling_task="9/4"))
    assert read(recent_work, 1)[0].campaign == 9
    with ledger.begin() as connection:
        connection.execute(update(annotations).values(labeling_task=None))
    assert read(recent_work, 1)[0].campaign == 1


def test_gold_and_choice_of_one_sample_keep_apart(read, crew):
    [sample] = crew.ask(1, night=1)
    crew.ask([sample], purpose=Purpose.GOLD, night=2, shown=False)
    crew.answer(sample, "ada", purpose=Purpose.GOLD)
    crew.answer(sample, "ben")
    assert [row.night for row in read(recent_work, 9)] == [2, 1]


def test_labels_are_those_that_annotators_gave_and_that_stand(read, crew):
    one, two, three = crew.ask(3)
    crew.label([one, two], 0.8)
    crew.label([one], 0.95)
    crew.label([two], 0.0, answer=None)
    assert read(annotator_labels, [one, two, three]) == {one: 0.95}
