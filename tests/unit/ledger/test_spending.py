"""What people did since a time: summed by person, what was left open cut."""

from datetime import timedelta

import pytest

from flywheel.ledger.annotators import Cut, spent_since


@pytest.fixture
def read(ledger):
    def run(function, *arguments):
        with ledger.read() as connection:
            return function(connection, *arguments)

    return run


def test_nobody_has_done_anything_yet(read, crew):
    assert read(spent_since, crew.now, {}, None) == []


def test_what_was_spent_is_summed_by_person_and_what_was_left_open_is_cut(read, crew):
    for sample, seconds in zip(crew.ask(4), (10.0, 900.0, None, -5.0), strict=True):
        crew.answer(sample, "ada", seconds)
    for sample in crew.ask(2):
        crew.answer(sample, "ben", 50.0)
    ada, ben = read(spent_since, crew.now, {"ada": Cut(60.0, 12.0)}, Cut(40.0, 30.0))
    assert (ada.annotator, ada.num_annotations, ada.num_timed, ada.seconds) == ("ada", 4, 3, 22.0)
    assert (ben.num_annotations, ben.seconds) == (2, 60.0)
    assert read(spent_since, crew.now, {"ada": Cut(60.0, 12.0)}, None)[1].seconds == 100.0
    assert read(spent_since, crew.now, {}, None)[0].seconds == 910.0


def test_an_annotation_counts_from_its_last_change(read, crew):
    old, new = crew.ask(2)
    crew.answer(old, "ada", 10.0, updated_at=crew.now - timedelta(days=1))
    crew.answer(new, "ada", 20.0)
    assert read(spent_since, crew.now, {}, None)[0].seconds == 20.0
