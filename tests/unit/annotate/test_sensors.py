"""A correction becomes a label: once, on the training side alone, and under annotators."""

import dataclasses

import pytest
import torch
from sqlalchemy import select

from flywheel.annotate import label_from_sensors
from flywheel.annotate import labels as module
from flywheel.annotate.labels import SensorResult
from flywheel.errors import SettingsError, TaskError
from flywheel.ledger.datasets import add_labels
from flywheel.ledger.tables import labels, skips
from flywheel.project import load_project
from flywheel.records import FeedbackKind, Sample, Split
from flywheel.settings.learning import Sensors

TRUSTED = Sensors(correction_reliability=0.9)
CORRECTION, OUTCOME = FeedbackKind.CORRECTION, FeedbackKind.OUTCOME
ANIMALS = ["cat", "dog", "cow"]


@pytest.fixture
def task(points_task):
    """Animals, of which the model says cat."""

    def scores(answer, label):
        return {"correct": float(ANIMALS.index(answer) == ANIMALS.index(label))}

    return dataclasses.replace(
        points_task, scores=scores, targets=lambda labels: torch.zeros(len(labels))
    )


@pytest.fixture
def read(ledger, task, production):
    def run(settings=TRUSTED, task=task):
        return label_from_sensors(ledger, task, settings, production.now, 3)

    return run


@pytest.fixture
def labels_of(ledger):
    """(sample id) -> answer, reliability and source of every label that it had."""

    def run(sample_id):
        query = select(labels.c.answer, labels.c.reliability, labels.c.source)
        with ledger.read() as connection:
            rows = connection.execute(query.where(labels.c.sample_id == sample_id))
            return [tuple(row) for row in rows]

    return run


@pytest.fixture
def label(production):
    """Annotators, or another source, label a sample."""

    def run(sample_id, answer, source="annotators"):
        production.label([sample_id], 1.0, answer=answer, source=source)

    return run


def test_a_correction_is_a_label(production, read, labels_of):
    (prediction,) = production.predict(0.5)
    production.feedback(prediction, CORRECTION, "dog")
    assert read() == SensorResult(num_labels=1)
    assert labels_of(prediction.sample_id) == [("dog", 0.9, "sensor")]


def test_what_has_no_reliability_is_no_label_and_is_read_once_it_has(production, read, labels_of):
    (prediction,) = production.predict(0.5)
    production.feedback(prediction, CORRECTION, "dog")
    assert read(Sensors()) == SensorResult(num_unused=1)
    assert read(Sensors()) == SensorResult()
    assert labels_of(prediction.sample_id) == []
    assert read().num_labels == 1


@pytest.mark.parametrize("worked", [True, False])
def test_an_outcome_and_a_rating_are_no_labels(production, read, worked):
    (prediction,) = production.predict(0.5)
    production.feedback(prediction, OUTCOME, value=worked)
    production.feedback(prediction, FeedbackKind.RATING, 1.0)
    assert read() == SensorResult()


def test_feedback_is_read_once(production, read, labels_of, label):
    (prediction,) = production.predict(0.5)
    production.feedback(prediction, CORRECTION, "dog")
    read()
    label(prediction.sample_id, None, source="sensor")
    assert read() == SensorResult()
    assert labels_of(prediction.sample_id)[-1][0] is None


def test_a_sample_that_tests_is_never_labeled_by_a_sensor(production, read, labels_of):
    (prediction,) = production.predict(0.5, split=Split.TEST)
    production.feedback(prediction, CORRECTION, "dog")
    assert (read(), labels_of(prediction.sample_id)) == (SensorResult(), [])


@pytest.mark.parametrize("apart", [False, True])
def test_of_several_corrections_the_newest_counts(production, read, labels_of, apart):
    (prediction,) = production.predict(0.5)
    for animal in ("cow", "dog"):
        production.feedback(prediction, CORRECTION, animal)
        if apart:
            read()
    read()
    assert labels_of(prediction.sample_id)[-1] == ("dog", 0.9, "sensor")
    assert len(labels_of(prediction.sample_id)) == 1 + apart


@pytest.mark.parametrize("source", ["annotators", "start"])
def test_a_sensor_never_replaces_a_label_of_annotators(production, read, labels_of, label, source):
    (prediction,) = production.predict(0.5)
    label(prediction.sample_id, "cow", source)
    production.feedback(prediction, CORRECTION, "dog")
    assert read() == SensorResult()
    assert labels_of(prediction.sample_id) == [("cow", 1.0, source)]


def test_what_a_sensor_says_again_changes_nothing(production, read, labels_of):
    sample = Sample.of(b"again", "text/plain")
    for prediction in production.predict(0.5, 0.6, sample=sample):
        production.feedback(prediction, CORRECTION, "dog")
        read()
    assert len(labels_of(sample.id)) == 1


@pytest.mark.parametrize("value", ["horse", None, 3, {"x": []}])
def test_what_the_task_cannot_read_is_set_aside_and_the_rest_goes_on(
    production, read, labels_of, ledger, value
):
    bad, good = production.predict(0.5, 0.5)
    production.feedback(bad, CORRECTION, "cow")
    production.feedback(bad, CORRECTION, value)
    production.feedback(good, CORRECTION, "dog")
    assert read() == SensorResult(num_labels=2, num_refused=1)
    assert labels_of(bad.sample_id) == [("cow", 0.9, "sensor")]
    with ledger.read() as connection:
        (skip,) = connection.execute(select(skips)).all()
    assert (skip.subject, skip.night) == (f"correction on sample {bad.sample_id}", 3)
    assert "is not an answer" in skip.reason


@pytest.mark.parametrize("error", [TaskError, ValueError, TypeError, KeyError, RuntimeError])
def test_a_target_that_cannot_be_made_sets_the_answer_aside(production, read, task, error):
    def targets(answers):
        raise error(f"{answers} have no target")

    (prediction,) = production.predict(0.5)
    production.feedback(prediction, CORRECTION, "cat")
    odd = dataclasses.replace(task, targets=targets)
    assert read(task=odd) == SensorResult(num_refused=1)


@pytest.mark.parametrize("piece", [1, 2, 100])
def test_a_kill_between_pieces_loses_and_repeats_nothing(
    production, read, labels_of, ledger, monkeypatch, piece
):
    monkeypatch.setattr("flywheel.ledger.windows._PIECE", piece)
    predictions = production.predict(*[0.5] * 5)
    for prediction in predictions:
        production.feedback(prediction, CORRECTION, "dog")
    with monkeypatch.context() as patch:
        patch.setattr(module, "add_labels", _dies_after_the_first)
        with pytest.raises(KeyboardInterrupt):
            read()
    read()
    assert [len(labels_of(prediction.sample_id)) for prediction in predictions] == [1] * 5


def _dies_after_the_first(connection, new, now):
    add_labels(connection, new, now)
    raise KeyboardInterrupt


def test_a_reliability_is_a_share(tmp_path):
    text = '[project]\nname = "toy"\ntask = "a:b"\n[sensors]\n'
    (tmp_path / "flywheel.toml").write_text(f"{text}correction_reliability = 1.1\n")
    with pytest.raises(
        SettingsError, match=r"sensors\.correction_reliability = 1.1: input should be less than or"
    ):
        load_project(tmp_path)
