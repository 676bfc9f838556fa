"""Outcomes train as far as labels bear them out, on the training side alone, and never test."""

import dataclasses

import pytest
import torch

from flywheel.blobs import Blobs
from flywheel.dataset import make_version
from flywheel.dataset.outcomes import Trust
from flywheel.ledger.batches import add_batch
from flywheel.ledger.datasets import add_labels, read_manifest
from flywheel.ledger.predictions import newest_outcomes
from flywheel.records import Batch, Choice, FeedbackKind, Label, Share, Split
from flywheel.settings.learning import Dataset

OUTCOME = FeedbackKind.OUTCOME
ANIMALS = ["cat", "dog"]


@pytest.fixture
def task(points_task):
    """Animals, of which the model always says cat."""

    def scores(answer, label):
        return {"correct": float(ANIMALS.index(answer) == ANIMALS.index(label))}

    return dataclasses.replace(
        points_task,
        scores=scores,
        targets=lambda labels: torch.zeros(len(labels)),
        loss_not=lambda *_: None,
    )


@pytest.fixture
def arrive(production, draw_points, ledger, tmp_path):
    """(seed, outcome, **how) -> a new sample with this outcome, and a label if one is given."""
    blobs = Blobs.open(str(tmp_path / "blobs"))

    def run(seed, outcome=None, label=None, source="annotators", split=Split.TRAIN):
        (sample,), _ = draw_points(1, seed)
        blobs.put(sample.payload)
        (prediction,) = production.predict(0.9, sample=sample, split=split)
        if outcome is not None:
            production.feedback(prediction, OUTCOME, value=outcome)
        if label is not None:
            given = Label(
                sample_id=sample.id, answer=label, reliability=1, num_annotations=1, source=source
            )
            with ledger.begin() as connection:
                if source == "annotators":
                    add_batch(connection, _batch(prediction, split, production.now))
                add_labels(connection, [given], production.now)
        return prediction

    return run


@pytest.fixture
def make(ledger, task, production, tmp_path):
    """A version and its rows by sample."""
    blobs = Blobs.open(str(tmp_path / "blobs"))

    def run(task=task, outcomes=100):
        made = make_version(ledger, blobs, task, Dataset(), now=production.now, outcomes=outcomes)
        return made, {row.sample_id: row for row in read_manifest(blobs, made.version.id)}

    return run


def _batch(prediction, split, now):
    """One sample, chosen as its side of the split wants it."""
    drawn = split is Split.TEST
    choice = Choice(
        sample_id=prediction.sample_id,
        prediction_id=prediction.id,
        share=Share.PROBABILITY if drawn else Share.TARGETED,
        reason="",
        priority=0.0,
        inclusion_probability=0.5 if drawn else None,
    )
    return Batch(id=prediction.sample_id, choices=(choice,), night=0, population=1, created_at=now)


def test_what_worked_is_a_row_with_the_answer_and_what_failed_one_with_the_answer_to_avoid(
    arrive, make
):
    worked, failed = arrive(1, outcome=True), arrive(2, outcome=False)
    made, rows = make()
    assert made.version.num_train == 0  # labels alone are counted
    for prediction, origin in ((worked, "worked"), (failed, "failed")):
        row = rows[prediction.sample_id]
        assert (row.split, row.origin, row.answer, row.weight) == (Split.TRAIN, origin, "cat", 0.8)
    assert made.outcomes == (
        "1 answers that worked train with weight 0.8, no label to compare with; "
        "1 answers that failed train with weight 0.8, no label to compare with"
    )


@pytest.mark.parametrize("outcome", [True, False])
def test_an_outcome_never_tests(arrive, make, outcome):
    arrive(1, outcome=outcome, split=Split.TEST)
    made, rows = make()
    assert (rows, made.outcomes) == ({}, "")


def test_no_outcomes_are_no_rows_and_no_note(arrive, make):
    arrive(1)
    made, rows = make()
    assert (rows, made.outcomes) == ({}, "")


def test_outcomes_can_be_left_out(arrive, make):
    arrive(1, outcome=True)
    made, rows = make(outcomes=0)
    assert (rows, made.outcomes) == ({}, "")


@pytest.mark.parametrize("source", ["annotators", "sensor", "start"])
def test_any_label_takes_precedence(arrive, make, source):
    prediction = arrive(1, outcome=True, label="dog", source=source)
    row = make()[1][prediction.sample_id]
    assert (row.answer, row.origin) == ("dog", {"annotators": "targeted"}.get(source, source))


def test_only_the_newest_outcomes_are_read_and_of_a_sample_the_last(
    arrive, make, production, ledger
):
    first, second, third = (arrive(seed, outcome=True) for seed in (1, 2, 3))
    production.feedback(second, OUTCOME, value=False)
    _, rows = make(outcomes=2)
    assert {key: row.origin for key, row in rows.items()} == {
        second.sample_id: "failed",
        third.sample_id: "worked",
    }
    with ledger.read() as connection:
        found = newest_outcomes(connection, 10)
    ids = [second.sample_id, third.sample_id, first.sample_id]
    assert [(one.sample_id, one.worked) for one in found] == list(
        zip(ids, [False, True, True], strict=True)
    )


@pytest.mark.parametrize(
    ("compared", "right", "weight"),
    [(0, 0, 0.8), (90, 90, 1.0), (30, 30, 0.95), (30, 15, 0.0), (10, 5, 0.0), (10, 7, 0.6)],
)
def test_trust_starts_with_a_prior_and_follows_what_labels_bear_out(compared, right, weight):
    assert Trust(num_compared=compared, num_right=right).weight == pytest.approx(weight)


def test_a_source_that_lies_loses_its_trust(arrive, make):
    """It says that cats worked, and annotators see dogs."""
    for seed in range(10):
        arrive(seed, outcome=True, label="dog")
    liar, other = arrive(11, outcome=True), arrive(12, outcome=False)
    made, rows = make()
    assert liar.sample_id not in rows
    assert rows[other.sample_id].weight == 0.8
    assert made.outcomes.startswith(
        "1 answers that worked do not train, outcomes are right on 0 of 10 with a label"
    )


def test_a_failed_outcome_is_right_where_the_label_is_another_answer(arrive, make):
    for seed in range(10):
        arrive(seed, outcome=False, label="dog")
    prediction = arrive(11, outcome=False)
    made, rows = make()
    assert rows[prediction.sample_id].weight == 0.9  # p = 19 / 20
    assert "weight 0.9, right on 10 of 10 with a label" in made.outcomes


def test_labels_that_test_say_nothing_of_the_trust(arrive, make):
    for seed in range(10):
        arrive(seed, outcome=True, label="dog", split=Split.TEST)
    prediction = arrive(11, outcome=True)
    assert make()[1][prediction.sample_id].weight == 0.8


def test_without_loss_not_what_failed_does_not_train(arrive, make, task):
    arrive(1, outcome=False)
    made, rows = make(dataclasses.replace(task, loss_not=None))
    assert rows == {}
    assert made.outcomes == "1 answers that failed do not train, the task has no loss_not"


def test_an_answer_that_the_task_can_no_longer_read_is_dropped_with_the_reason(arrive, make, task):
    prediction = arrive(1, outcome=True)
    made, rows = make(dataclasses.replace(task, scores=lambda *_: {}[0]))
    assert rows == {}
    (dropped,) = made.dropped
    assert dropped.sample_id == prediction.sample_id
    assert dropped.reason.startswith("its outcome is on 'cat', not an answer of the task")


def test_the_same_outcomes_give_the_same_version(arrive, make):
    arrive(1, outcome=True)
    first, second = make()[0], make()[0]
    assert (first.is_new, second.is_new) == (True, False)
    assert first.version.id == second.version.id
