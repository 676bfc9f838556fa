"""What sensors say becomes labels: once, on the training side alone, and under annotators."""

import dataclasses

import pytest
from sqlalchemy import select

from flywheel.annotate import SensorResult, label_from_sensors
from flywheel.annotate import sensors as module
from flywheel.errors import SettingsError, TaskError
from flywheel.ledger.datasets import add_labels
from flywheel.ledger.tables import labels, skips
from flywheel.project import load_project
from flywheel.records import FeedbackKind, Label, Sample, Split
from flywheel.settings.learning import Sensors

TRUSTED = Sensors(correction_reliability=0.9, outcome_reliability=0.6)
CORRECTION, OUTCOME = FeedbackKind.CORRECTION, FeedbackKind.OUTCOME
ANIMALS = ["cat", "dog", "cow"]


@pytest.fixture
def task(points_task):
    """Animals, of which the model says cat."""

    def scores(answer, label):
        return {"correct": float(ANIMALS.index(answer) == ANIMALS.index(label))}

    return dataclasses.replace(points_task, scores=scores, targets=len)


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
def label(ledger, production):
    """Annotators, or another source, label a sample."""

    def run(sample_id, answer, source="annotators"):
        given = Label(
            sample_id=sample_id, answer=answer, reliability=1.0, num_annotations=1, source=source
        )
        with ledger.begin() as connection:
            add_labels(connection, [given], production.now)

    return run


def test_a_correction_is_a_label_and_so_is_what_worked(production, read, labels_of):
    first, second = production.predict(0.5, 0.5)
    production.say(first, CORRECTION, "dog")
    production.say(second, OUTCOME, value=True)
    assert read() == SensorResult(num_labels=2)
    assert labels_of(first.sample_id) == [("dog", 0.9, "sensor")]
    assert labels_of(second.sample_id) == [("cat", 0.6, "sensor")]


def test_what_has_no_reliability_is_no_label_and_is_read_once_it_has(production, read, labels_of):
    first, second = production.predict(0.5, 0.5)
    production.say(first, CORRECTION, "dog")
    production.say(second, OUTCOME, value=True)
    assert read(Sensors()) == SensorResult()
    assert read(Sensors(correction_reliability=0.9)).num_labels == 1
    assert labels_of(second.sample_id) == []
    assert read().num_labels == 1


def test_what_failed_and_what_is_rated_is_no_label(production, read):
    (prediction,) = production.predict(0.5)
    production.say(prediction, OUTCOME, value=False)
    production.say(prediction, FeedbackKind.RATING, 1.0)
    assert read() == SensorResult()


def test_feedback_is_read_once(production, read, labels_of, label):
    (prediction,) = production.predict(0.5)
    production.say(prediction, CORRECTION, "dog")
    read()
    label(prediction.sample_id, None, source="sensor")
    assert read() == SensorResult()
    assert labels_of(prediction.sample_id)[-1][0] is None


def test_a_sample_that_tests_is_never_labeled_by_a_sensor(production, read, labels_of):
    (prediction,) = production.predict(0.5, split=Split.TEST)
    production.say(prediction, CORRECTION, "dog")
    production.say(prediction, OUTCOME, value=True)
    assert (read(), labels_of(prediction.sample_id)) == (SensorResult(), [])


@pytest.mark.parametrize("apart", [False, True])
def test_of_several_corrections_the_newest_counts(production, read, labels_of, apart):
    (prediction,) = production.predict(0.5)
    for animal in ("cow", "dog"):
        production.say(prediction, CORRECTION, animal)
        if apart:
            read()
    read()
    assert labels_of(prediction.sample_id)[-1] == ("dog", 0.9, "sensor")
    assert len(labels_of(prediction.sample_id)) == 1 + apart


@pytest.mark.parametrize("apart", [False, True])
def test_a_correction_says_more_than_an_outcome(production, read, labels_of, apart):
    sample = Sample.of(b"again", "text/plain")
    first, second, third = production.predict(0.5, 0.5, 0.5, sample=sample)
    production.say(first, OUTCOME, value=True)
    if apart:
        read()
    production.say(second, CORRECTION, "dog")
    production.say(third, OUTCOME, value=True)
    read()
    assert labels_of(sample.id)[-1] == ("dog", 0.9, "sensor")


@pytest.mark.parametrize("source", ["annotators", "start"])
def test_a_sensor_never_replaces_a_label_of_annotators(production, read, labels_of, label, source):
    (prediction,) = production.predict(0.5)
    label(prediction.sample_id, "cow", source)
    production.say(prediction, CORRECTION, "dog")
    production.say(prediction, OUTCOME, value=True)
    assert read() == SensorResult()
    assert labels_of(prediction.sample_id) == [("cow", 1.0, source)]


def test_what_a_sensor_says_again_changes_nothing(production, read, labels_of):
    sample = Sample.of(b"again", "text/plain")
    for prediction in production.predict(0.5, 0.6, sample=sample):
        production.say(prediction, CORRECTION, "dog")
        read()
    assert len(labels_of(sample.id)) == 1


@pytest.mark.parametrize("value", ["horse", None, 3, {"x": []}])
def test_what_the_task_cannot_read_is_set_aside_and_the_rest_goes_on(
    production, read, labels_of, ledger, value
):
    bad, good = production.predict(0.5, 0.5)
    production.say(bad, CORRECTION, "cow")
    production.say(bad, CORRECTION, value)
    production.say(good, CORRECTION, "dog")
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
    production.say(prediction, OUTCOME, value=True)
    odd = dataclasses.replace(task, targets=targets)
    assert read(task=odd) == SensorResult(num_refused=1)


@pytest.mark.parametrize("piece", [1, 2, 100])
def test_a_kill_between_pieces_loses_and_repeats_nothing(
    production, read, labels_of, ledger, monkeypatch, piece
):
    monkeypatch.setattr(module, "_PIECE", piece)
    predictions = production.predict(*[0.5] * 5)
    for prediction in predictions:
        production.say(prediction, CORRECTION, "dog")
    with monkeypatch.context() as patch:
        patch.setattr(module, "add_labels", _dies_after_the_first)
        with pytest.raises(KeyboardInterrupt):
            read()
    read()
    assert [len(labels_of(prediction.sample_id)) for prediction in predictions] == [1] * 5


def _dies_after_the_first(connection, new, now):
    add_labels(connection, new, now)
    raise KeyboardInterrupt


@pytest.mark.parametrize("key", ["correction_reliability", "outcome_reliability"])
def test_a_reliability_is_a_share(tmp_path, key):
    text = '[project]\nname = "toy"\ntask = "a:b"\n[sensors]\n'
    (tmp_path / "flywheel.toml").write_text(f"{text}{key} = 1.1\n")
    with pytest.raises(SettingsError, match=f"sensors.{key} = 1.1: input should be less than or"):
        load_project(tmp_path)
