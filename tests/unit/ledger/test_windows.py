import pytest
from sqlalchemy import event

from flywheel.ledger.failures import strongest_failures
from flywheel.ledger.windows import (
    count_between,
    latest,
    logged,
    low_confidence,
    move_watermark,
    population,
    recent_samples,
    watermark,
    with_feedback,
)
from flywheel.records import FailureState, FeedbackKind, Sample, Split
from flywheel.testing import choice_of

OUTCOME = FeedbackKind.OUTCOME


@pytest.fixture
def plans(ledger):
    """Runs a read and says how SQLite went about each of its statements."""

    def explain(work):
        found = []

        def note(_connection, _cursor, statement, parameters, _context, _executemany):
            found.append((statement, parameters))

        with ledger.read() as connection:
            event.listen(connection, "before_cursor_execute", note)
            list(work(connection))
            event.remove(connection, "before_cursor_execute", note)
        with ledger.engine.connect() as connection:
            return [
                row[3]
                for statement, parameters in found
                for row in connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", parameters)
            ]

    return explain


@pytest.mark.parametrize(
    "read",
    [
        lambda connection: low_confidence(connection, 5, 9, 0.7),
        lambda connection: with_feedback(connection, 5, 9),
        lambda connection: population(connection, 5, 9, Split.TEST),
        lambda connection: [count_between(connection, "feedback", 5, 9)],
        lambda connection: logged(connection, ["p1", "p2"]),
    ],
    ids=["low_confidence", "with_feedback", "population", "count", "logged"],
)
def test_reading_a_window_searches_by_index_and_scans_no_log(production, plans, read):
    production.predict(*[0.5] * 20)
    lines = plans(read)
    assert any(line.startswith("SEARCH") for line in lines)
    scanned = [line for line in lines if line.startswith(("SCAN predictions", "SCAN feedback"))]
    assert scanned == []


def test_a_window_is_open_at_its_start_and_closed_at_its_end(ledger, production):
    production.predict(*[0.1] * 5)
    with ledger.read() as connection:
        found = [suspect.prediction_id for suspect in low_confidence(connection, 1, 3, 0.7)]
        assert count_between(connection, "predictions", 1, 3) == 2
    assert found == ["p1", "p2"]


def test_a_watermark_starts_at_0_and_never_goes_back(ledger):
    with ledger.begin() as connection:
        marks = [watermark(connection, "reader")]
        for seq in (7, 3, 9):
            move_watermark(connection, "reader", seq)
            marks.append(watermark(connection, "reader"))
        assert watermark(connection, "another reader") == 0
    assert marks == [0, 7, 7, 9]


def test_the_newest_number_of_an_empty_log_is_0(ledger, production):
    with ledger.read() as connection:
        assert (latest(connection, "predictions"), latest(connection, "feedback")) == (0, 0)
    (prediction,) = production.predict(0.5)
    production.feedback(prediction, OUTCOME, value=True)
    with ledger.read() as connection:
        assert (latest(connection, "predictions"), latest(connection, "feedback")) == (1, 1)


def test_feedback_comes_with_its_prediction_however_old_that_is(ledger, production):
    old, *_ = production.predict(*[0.9] * 10)
    production.feedback(old, OUTCOME, value=False)
    with ledger.read() as connection:
        (suspect,) = with_feedback(connection, 0, 1)
    assert (suspect.prediction_id, suspect.feedback) == (old.id, ("outcome", False))


def test_a_population_has_each_sample_of_its_split_once_by_its_first_prediction(ledger, production):
    sample = Sample.of(b"again", "text/plain")
    first, _ = production.predict(0.2, 0.9, sample=sample, split=Split.TEST)
    production.predict(0.1, split=Split.TRAIN)
    with ledger.read() as connection:
        (candidate,) = population(connection, 0, 10, Split.TEST)
    assert (candidate.prediction_id, candidate.confidence) == (first.id, 0.2)


def test_what_was_chosen_is_in_no_population_again(ledger, production):
    chosen, other = production.predict(0.2, 0.3, split=Split.TEST)
    production.batch([choice_of(chosen, 0.5)])
    with ledger.read() as connection:
        found = population(connection, 0, 10, Split.TEST)
    assert [candidate.prediction_id for candidate in found] == [other.id]


def test_recent_samples_come_newest_first_and_once(ledger, production):
    sample = Sample.of(b"again", "text/plain")
    production.predict(0.5, sample=sample)
    (other,) = production.predict(0.5)
    production.predict(0.5, sample=sample)
    with ledger.read() as connection:
        assert recent_samples(connection, 10) == [sample.id, other.sample_id]
        assert recent_samples(connection, 1) == [sample.id]


def test_what_was_logged_of_more_ids_than_one_statement_takes_all_comes_back(ledger, production):
    ids = [prediction.id for prediction in production.predict(*[0.5] * 1_201)]
    with ledger.read() as connection:
        found = logged(connection, [*ids, "nobody"])
    assert found.keys() == set(ids)
    assert (found["p7"].model_digest, found["p7"].confidence) == ("d" * 64, 0.5)
    assert found["p7"].embedding.shape == (2,)


def test_the_strongest_failures_are_read_from_their_index(production, plans):
    production.predict(0.1)
    lines = plans(lambda c: strongest_failures(c, FailureState.SEEN, Split.TRAIN, 5))
    assert any("ix_failures_state" in line for line in lines)
