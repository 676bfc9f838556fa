"""How far labeling has come, and how much of the log nobody has read."""

from datetime import timedelta

import pytest

from flywheel.ledger.annotations import Returned, save_annotations
from flywheel.ledger.datasets import add_labels
from flywheel.ledger.predictions import measure_log
from flywheel.ledger.progress import count_annotators, count_labeling, measure_agreement
from flywheel.ledger.windows import move_watermark
from flywheel.records import Annotation, Label, Purpose


@pytest.fixture
def connection(ledger):
    with ledger.begin() as connection:
        yield connection


@pytest.fixture
def sample_id(production):
    return production.predict(0.5)[0].sample_id


def annotation(sample_id, annotator, now, *, skipped=False, refused=None, seconds=None):
    given = Annotation(
        id=f"{sample_id[:8]} {annotator}",
        sample_id=sample_id,
        annotator=annotator,
        answer=None if skipped else "cat",
        skipped=skipped,
        lead_time_seconds=seconds,
        updated_at=now,
    )
    return Returned(annotation=given, refused=refused, labeling_task="1/1")


def label(sample_id, reliability, number, answer="cat"):
    return Label(
        sample_id=sample_id,
        answer=answer,
        reliability=reliability,
        num_annotations=number,
        source="annotators",
    )


def test_an_empty_ledger_counts_0_and_measures_nothing(connection):
    states = ("waiting", "sent", "done", "refused", "withdrawn")
    assert count_labeling(connection) == dict.fromkeys(states, 0)
    assert count_annotators(connection) == []
    assert measure_agreement(connection) is None


def test_annotators_are_counted_busiest_first_by_what_they_did(sample_id, ledger, production):
    now = production.now
    given = [
        annotation(sample_id, "ada", now, skipped=True, seconds=2.0),
        annotation(sample_id, "bob", now, seconds=6.0),
        annotation(sample_id, "cyd", now, refused="two choices"),
    ]
    with ledger.begin() as connection:
        save_annotations(connection, {"1/1": (sample_id, Purpose.CHOICE, given)}, now)
        counts = {c.annotator: c for c in count_annotators(connection)}
    assert list(counts) == ["bob", "ada", "cyd"]
    assert (counts["ada"].num_answers, counts["ada"].num_skipped) == (0, 1)
    assert (counts["cyd"].num_answers, counts["cyd"].num_refused) == (0, 1)
    assert counts["bob"].mean_lead_time_seconds == 6.0
    assert counts["cyd"].mean_lead_time_seconds is None


def test_what_was_deleted_does_not_count(sample_id, ledger, production):
    given = [annotation(sample_id, "ada", production.now)]
    with ledger.begin() as connection:
        save_annotations(connection, {"1/1": (sample_id, Purpose.CHOICE, given)}, production.now)
        later = production.now + timedelta(hours=1)
        save_annotations(connection, {"1/1": (sample_id, Purpose.CHOICE, [])}, later)
        assert count_annotators(connection) == []


def test_agreement_is_over_the_newest_labels_that_two_annotators_gave(ledger, production):
    ids = [found.sample_id for found in production.predict(0.1, 0.2, 0.3, 0.4)]
    rows = [label(ids[0], 0.2, 5), label(ids[0], 1.0, 2), label(ids[1], 0.5, 2)]
    rows += [label(ids[2], 1.0, 1), label(ids[3], 0.9, 2, answer=None)]
    with ledger.begin() as connection:
        add_labels(connection, rows, production.now)
        found = measure_agreement(connection)
    assert (found.mean_reliability, found.num_labels) == (0.75, 2)


def test_what_no_collection_has_read_is_counted(ledger, production):
    production.predict(0.1, 0.2, 0.3)
    with ledger.begin() as connection:
        move_watermark(connection, "predictions collected", 2)
        log = measure_log(connection, 0.7)
    assert (log.num_predictions, log.num_uncollected, log.num_unsure) == (3, 1, 1)
