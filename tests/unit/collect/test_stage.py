import pytest
from sqlalchemy import event

from flywheel.collect import Collected, collect
from flywheel.collect import stage as collect_stage
from flywheel.ledger.failures import count_failures, failures_in
from flywheel.ledger.predictions import append_feedback
from flywheel.ledger.tables import feedback
from flywheel.ledger.windows import watermark
from flywheel.records import FailureState, FeedbackKind, Sample

OUTCOME = FeedbackKind.OUTCOME


@pytest.fixture
def run(ledger, production):
    return lambda threshold=0.7: collect(ledger, threshold, 0, production.now)


def failures(ledger):
    with ledger.read() as connection:
        return {
            failure.sample_id: failure for failure in failures_in(connection, FailureState.SEEN)
        }


@pytest.fixture
def statements(ledger):
    """Every statement that runs with parameters, as (text, number of parameter sets)."""
    found = []

    def note(_connection, _cursor, statement, parameters, _context, executemany):
        found.append((statement, len(parameters) if executemany else 1))

    event.listen(ledger.engine, "before_cursor_execute", note)
    return found


def seen_names(failure):
    return {signal.name for signal in failure.signals}


def test_an_empty_window_is_nothing_and_no_error(run):
    assert run() == Collected(num_predictions=0, num_feedback=0, num_failures=0)


def test_low_confidence_and_contradicted_answers_become_failures(ledger, production, run):
    low, high, fine = production.predict(0.1, 0.99, 0.7)
    production.feedback(high, OUTCOME, value=False)
    production.feedback(fine, OUTCOME, value=True)
    assert run() == Collected(num_predictions=3, num_feedback=2, num_failures=2)
    assert failures(ledger).keys() == {low.sample_id, high.sample_id}


def test_a_correction_that_agrees_for_the_task_is_no_failure(ledger, production):
    (prediction,) = production.predict(0.95)
    production.feedback(prediction, FeedbackKind.CORRECTION, "Cat")
    agree = lambda one, other: one.lower() == other.lower()  # noqa: E731
    assert collect(ledger, 0.7, 0, production.now, agree).num_failures == 0


def test_collecting_twice_finds_nothing_the_second_time(production, run, ledger):
    production.predict(0.1, 0.2)
    run()
    before = failures(ledger)
    assert run() == Collected(num_predictions=0, num_feedback=0, num_failures=0)
    assert failures(ledger) == before


def test_feedback_that_comes_nights_later_still_finds_its_prediction(ledger, production, run):
    (prediction,) = production.predict(0.95)
    assert run().num_failures == 0
    production.predict(*[0.9] * 5)
    assert run().num_failures == 0
    production.feedback(prediction, OUTCOME, value=False)
    assert run() == Collected(num_predictions=0, num_feedback=1, num_failures=1)
    assert seen_names(failures(ledger)[prediction.sample_id]) == {"outcome_contradiction"}


def test_all_signals_of_a_sample_are_kept_however_many_come_at_once(ledger, production, run):
    """The second of three signals in one piece was lost."""
    (prediction,) = production.predict(0.95)
    production.feedback(prediction, OUTCOME, value=False)
    production.feedback(prediction, FeedbackKind.CORRECTION, "dog")
    production.feedback(prediction, FeedbackKind.RATING, 0.0)
    assert run().num_failures == 1
    found = failures(ledger)[prediction.sample_id]
    assert seen_names(found) == {"outcome_contradiction", "correction", "low_rating"}


def test_a_sample_that_is_asked_again_stays_one_failure_with_its_strongest_signal(
    ledger, production, run
):
    sample = Sample.of(b"again", "text/plain")
    production.predict(0.6, 0.1, 0.5, sample=sample)
    assert run().num_failures == 1
    (signal,) = failures(ledger)[sample.id].signals
    assert signal.strength == pytest.approx(6 / 7)


def test_windows_know_no_calendar(ledger, production, run):
    """A run at 00:30 must see what came at 23:59, and what a wrong clock dated into next year."""
    for day in (31, 1, 2):
        production.now = production.now.replace(day=day, hour=23, minute=59)
        production.predict(0.1)
    production.now = production.now.replace(year=2025, hour=0, minute=30)
    assert run().num_failures == 3


@pytest.mark.parametrize("piece", [1, 2, 3, 100])
def test_the_size_of_a_piece_changes_nothing(ledger, production, run, monkeypatch, piece):
    monkeypatch.setattr("flywheel.ledger.windows._PIECE", piece)
    predictions = production.predict(*[0.1, 0.9] * 4)
    for prediction in predictions[:5]:
        production.feedback(prediction, OUTCOME, value=False)
    assert run() == Collected(num_predictions=8, num_feedback=5, num_failures=6)


@pytest.mark.parametrize("survived", range(5))
def test_a_run_that_dies_between_or_within_pieces_misses_and_repeats_nothing(
    ledger, production, run, monkeypatch, survived
):
    monkeypatch.setattr("flywheel.ledger.windows._PIECE", 2)
    ids = {prediction.sample_id for prediction in production.predict(*[0.1] * 9)}
    with monkeypatch.context() as patch:
        patch.setattr(collect_stage, "add_failures", _dies_after(survived))
        with pytest.raises(KeyboardInterrupt):
            run()
    with ledger.read() as connection:
        assert watermark(connection, "predictions collected") == 2 * survived
    again = run()
    assert again.num_predictions == again.num_failures == 9 - 2 * survived
    assert failures(ledger).keys() == ids


def _dies_after(pieces):
    """add_failures that is killed after having written in one more piece."""
    calls, add = [], collect_stage.add_failures

    def add_and_die(*arguments):
        calls.append(add(*arguments))
        if len(calls) > pieces:
            raise KeyboardInterrupt
        return calls[-1]

    return add_and_die


def test_collecting_costs_as_many_statements_as_there_is_new_and_no_more(
    production, run, statements
):
    production.predict(*[0.9] * 10)
    run()
    statements.clear()
    production.predict(0.9)
    before = len(statements)
    run()
    few = len(statements) - before
    production.predict(*[0.9] * 2_000)
    run()
    statements.clear()
    production.predict(0.9)
    before = len(statements)
    run()
    assert len(statements) - before == few


def test_feedback_is_counted_by_rows_because_numbers_have_gaps(ledger, production, run):
    """PostgreSQL burns numbers on duplicates and roll-backs; differences counted them."""
    (prediction,) = production.predict(0.9)
    production.feedback(prediction, OUTCOME, value=True)
    with ledger.begin() as connection:
        connection.execute(feedback.update().values(seq=40))
    assert run().num_feedback == 1


def test_seen_failures_are_counted_by_state(ledger, production, run):
    production.predict(0.1, 0.2, 0.9)
    run()
    with ledger.read() as connection:
        counts = count_failures(connection)
    assert counts == {state: 2 if state is FailureState.SEEN else 0 for state in FailureState}


def test_saying_the_same_thing_twice_is_one_piece_of_feedback(ledger, production, run):
    (prediction,) = production.predict(0.9)
    for _ in range(3):
        production.feedback(prediction, OUTCOME, value=False)
    with ledger.begin() as connection:
        append_feedback(connection, [])
    assert run() == Collected(num_predictions=1, num_feedback=1, num_failures=1)
