"""The hard cases of a night, as pages show them."""

import pytest

from flywheel.collect import collect
from flywheel.ledger.failures import chosen_of_batch, count_moved, count_signals, failures_of_night
from flywheel.records import FailureState, FeedbackKind, Share, Split
from flywheel.select import select_batch
from flywheel.settings.labeling import LabelingSettings

SEEN = FailureState.SEEN


@pytest.fixture
def connection(ledger):
    with ledger.begin() as connection:
        yield connection


@pytest.fixture
def weak(production, ledger):
    """Three failures of night 0, of which the first is the strongest, and one of night 1."""
    found = production.predict(0.1, 0.3, 0.5, 0.9)
    collect(ledger, 0.7, 0, production.now)
    found += production.predict(0.2)
    collect(ledger, 0.7, 1, production.now)
    return found


def ids(cases):
    return [case.sample_id for case in cases]


def test_only_the_nights_own_failures_are_told_strongest_first(weak, connection):
    expected = [found.sample_id for found in weak[:3]]
    assert ids(failures_of_night(connection, 0, SEEN, 10)) == expected
    assert ids(failures_of_night(connection, 1, SEEN, 10)) == [weak[4].sample_id]
    assert failures_of_night(connection, 2, SEEN, 10) == []


def test_no_more_are_read_than_asked_for(weak, connection):
    assert ids(failures_of_night(connection, 0, SEEN, 1)) == [weak[0].sample_id]


def test_signals_are_counted_for_each_night(weak, ledger, production):
    production.feedback(weak[0], FeedbackKind.OUTCOME, value=False)
    collect(ledger, 0.7, 1, production.now)
    with ledger.read() as connection:
        assert count_signals(connection, 0) == {"low_confidence": 3, "outcome_contradiction": 1}
        assert count_signals(connection, 1) == {"low_confidence": 1}
        assert count_signals(connection, 2) == {}


def test_every_state_has_its_count(weak, connection):
    counts = count_moved(connection, 0)
    assert counts.pop(SEEN) == 3
    assert set(counts.values()) == {0}


def test_a_case_has_the_label_that_stands_and_none_when_it_was_withdrawn(weak, ledger, production):
    for answer in ("dog", None):
        production.label([weak[0].sample_id], answer=answer)
        with ledger.read() as connection:
            (case,) = failures_of_night(connection, 0, SEEN, 1)
        assert (case.label.answer if case.label else None) == answer


def test_a_batch_is_told_by_share_with_the_probability_of_the_draw(weak, ledger, production):
    production.predict(0.9, 0.9, split=Split.TEST)
    collect(ledger, 0.7, 1, production.now)
    settings = LabelingSettings(samples_per_night=50)
    batch = select_batch(
        *(ledger, settings),
        seed=0,
        night=1,
        now=production.now,
        drawn_from=Split.TEST,
        fills=False,
    )
    with ledger.read() as connection:
        drawn = chosen_of_batch(connection, batch.id, Share.PROBABILITY, 10)
        targeted = chosen_of_batch(connection, batch.id, Share.TARGETED, 10)
    assert {(case.inclusion_probability, case.state) for case in drawn} == {(1.0, None)}
    assert ids(targeted) == [weak[index].sample_id for index in (0, 4, 1, 2)]
    assert {case.inclusion_probability for case in targeted} == {None}
