import pytest

from flywheel.ledger.failures import (
    add_failures,
    count_failures,
    failures_in,
    move_failures,
    nights_between,
    strongest_failures,
)
from flywheel.ledger.tables import transitions
from flywheel.records import Failure, FailureState, Signal, Split

SEEN, QUEUED, LABELED, FIXED = (
    FailureState.SEEN,
    FailureState.QUEUED,
    FailureState.LABELED,
    FailureState.FIXED,
)


@pytest.fixture
def add(ledger, production):
    """Failures of these predictions with one signal; how many were new."""

    def run(predictions, name="low_confidence", strength=0.5, night=0):
        found = [
            Failure(
                sample_id=prediction.sample_id,
                prediction_id=prediction.id,
                signals=(Signal(name=name, strength=strength),),
                state=SEEN,
                created_at=production.now,
            )
            for prediction in predictions
        ]
        with ledger.begin() as connection:
            return add_failures(connection, found, night, production.now)

    return run


@pytest.fixture
def move(ledger, production):
    def run(predictions, state, night=0):
        ids = [prediction.sample_id for prediction in predictions]
        with ledger.begin() as connection:
            return move_failures(connection, ids, state, night, production.now)

    return run


def read(ledger, state):
    with ledger.read() as connection:
        return failures_in(connection, state)


def history(ledger):
    with ledger.read() as connection:
        rows = connection.execute(transitions.select().order_by(transitions.c.seq))
        return [(row.state, row.night) for row in rows]


def test_a_failure_is_new_once_and_keeps_its_first_prediction(ledger, production, add):
    first, again = production.predict(0.1, 0.2)
    assert [add([first]), add([first], "correction", 0.9)] == [1, 0]
    (failure,) = read(ledger, SEEN)
    assert failure.prediction_id == first.id
    assert failure.strength == pytest.approx(1 - 0.5 * 0.1)
    assert add([again]) == 1


def test_of_two_signals_of_one_name_the_stronger_stays(ledger, production, add):
    predictions = production.predict(0.1)
    for strength in (0.4, 0.8, 0.2):
        add(predictions, strength=strength)
    ((signal,),) = [failure.signals for failure in read(ledger, SEEN)]
    assert signal.strength == 0.8


def test_a_failure_goes_forward_through_its_states_and_never_back(ledger, production, add, move):
    predictions = production.predict(0.1)
    add(predictions)
    moved = [move(predictions, state) for state in (LABELED, QUEUED, LABELED, FIXED, SEEN)]
    assert moved == [1, 0, 0, 1, 0]
    assert [failure.state for failure in read(ledger, FIXED)] == [FIXED]


def test_every_step_of_its_life_is_noted_with_its_night(ledger, production, add, move):
    predictions = production.predict(0.1)
    add(predictions, night=None)
    move(predictions, QUEUED, night=3)
    move(predictions, QUEUED, night=4)
    assert history(ledger) == [("seen", None), ("queued", 3)]


def test_moving_samples_that_are_no_failures_moves_nothing(ledger, production, move):
    assert move(production.predict(0.9), QUEUED) == 0
    assert history(ledger) == []


def test_the_strongest_come_first_and_only_from_their_state_and_split(
    ledger, production, add, move
):
    weak, strong, queued = production.predict(0.5, 0.5, 0.5)
    (testing,) = production.predict(0.5, split=Split.TEST)
    for prediction, strength in [(weak, 0.2), (strong, 0.9), (queued, 1.0), (testing, 1.0)]:
        add([prediction], strength=strength)
    move([queued], QUEUED)
    with ledger.read() as connection:
        found = strongest_failures(connection, SEEN, Split.TRAIN, 5)
        assert strongest_failures(connection, SEEN, Split.TRAIN, 1) == found[:1]
    assert [failure.sample_id for failure in found] == [strong.sample_id, weak.sample_id]


def test_more_failures_than_one_statement_takes_are_known_again(ledger, production, add, move):
    predictions = production.predict(*[0.1] * 1_100)
    assert [add(predictions), add(predictions)] == [1_100, 0]
    assert move(predictions, QUEUED) == 1_100
    with ledger.read() as connection:
        assert count_failures(connection)[QUEUED] == 1_100


def test_nights_from_seen_to_fixed_are_of_failures_that_are_fixed(ledger, production, add, move):
    made = production.predict(0.5, 0.5, 0.5)
    add(made, night=2)
    move(made[:1], FIXED, 5)
    move(made[1:2], FIXED, 9)
    with ledger.read() as connection:
        assert sorted(nights_between(connection, SEEN, FIXED)) == [3, 7]
