"""From the ledger of a production whose answers are always "cat" to the metric of a week."""

import dataclasses

import numpy as np
import pytest

from flywheel.blobs import Blobs
from flywheel.collect import collect
from flywheel.errors import SettingsError
from flywheel.ledger.datasets import add_labels
from flywheel.loop.context import Loop
from flywheel.loop.judge import estimate_production
from flywheel.project import Project
from flywheel.records import Label, Split
from flywheel.select import select_batch
from flywheel.settings.judging import Metric
from flywheel.settings.labeling import LabelingSettings

SETTINGS = LabelingSettings(samples_per_night=60, probability_share=0.6)


@pytest.fixture
def loop(tmp_path, ledger, production, points_task):
    task = dataclasses.replace(
        points_task, scores=lambda answer, label: {"correct": float(answer == label)}
    )
    project = Project(directory=tmp_path, project={"name": "pets", "task": "t:t"})
    return Loop(
        project=project,
        task=task,
        ledger=ledger,
        blobs=Blobs.open(str(tmp_path / "blobs")),
        now=lambda: production.now,
    )


@pytest.fixture
def night(ledger, production):
    """A night's traffic, its batch and its labels: cat for the drawn, dog for the targeted."""

    def run(number, *, answered=True):
        confidences = np.random.default_rng(number).random(150)
        for split in (Split.TRAIN, Split.TEST):
            production.predict(*confidences, split=split)
        collect(ledger, 0.7, number, production.now)
        batch = select_batch(ledger, SETTINGS, seed=0, night=number, now=production.now)
        with ledger.begin() as connection:
            chosen = batch.choices if answered else ()
            add_labels(connection, map(_label, chosen), production.now)
        return batch

    return run


def _label(choice):
    return Label(
        sample_id=choice.sample_id,
        answer="dog" if choice.inclusion_probability is None else "cat",
        reliability=1.0,
        num_annotations=1,
        source="annotators",
    )


def test_without_labels_there_is_none(loop, night):
    night(0, answered=False)
    assert estimate_production(loop, 0) is None


def test_the_drawn_speak_for_production_and_the_hard_cases_only_for_themselves(loop, night):
    """People say cat to all that was drawn, dog to all that was targeted."""
    batch = night(0)
    found = estimate_production(loop, 1)
    num_drawn = sum(choice.inclusion_probability is not None for choice in batch.choices)
    assert found.estimate.value == pytest.approx(1.0)
    assert found.estimate.num_samples == num_drawn
    assert found.naive.value == pytest.approx(num_drawn / len(batch.choices))
    assert (found.num_population, found.first_night, found.last_night) == (150, 0, 0)
    assert found.assisted is not None


def test_a_week_of_batches_counts_and_those_without_labels_do_not(loop, night):
    for number in range(8):
        night(number, answered=number != 7)
    found = estimate_production(loop, 7)
    assert (found.first_night, found.last_night, found.num_population) == (1, 6, 900)


def test_the_same_night_gives_the_same_estimate(loop, night):
    night(0)
    assert estimate_production(loop, 3) == estimate_production(loop, 3)


def test_an_unknown_score_is_reported_with_the_nearest(loop, night):
    night(0)
    project = loop.project.model_copy(update={"metric": Metric(optimize="corect")})
    with pytest.raises(SettingsError, match="correct"):
        estimate_production(dataclasses.replace(loop, project=project), 1)


def test_the_logged_confidence_and_latency_are_scores_too(loop, night):
    night(0)
    project = loop.project.model_copy(update={"metric": Metric(optimize="confidence.median")})
    found = estimate_production(dataclasses.replace(loop, project=project), 1)
    assert 0 < found.estimate.value < 1
