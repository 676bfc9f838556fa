"""From the ledger of a production whose answers are always "cat" to the metric of a week."""

import dataclasses

import numpy as np
import pytest
from sqlalchemy import update

from flywheel.blobs import Blobs
from flywheel.collect import collect
from flywheel.errors import SettingsError
from flywheel.ledger.tables import labeling_tasks
from flywheel.loop.context import Loop
from flywheel.loop.measuring import estimate_production
from flywheel.project import Project
from flywheel.records import Split
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
        batch = select_batch(
            ledger, SETTINGS, seed=0, night=number, now=production.now, drawn_from=Split.TEST
        )
        for choice in batch.choices if answered else ():
            answer = "dog" if choice.inclusion_probability is None else "cat"
            production.label([choice.sample_id], 1.0, answer=answer)
        return batch

    return run


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


def test_samples_that_annotators_could_not_label_are_in_the_estimate(
    loop, ledger, production, night
):
    """They left the test set one-sidedly: what is hard to answer is hard for the model too."""
    batch = night(0)
    drawn = [choice for choice in batch.choices if choice.inclusion_probability is not None]
    gone = drawn[: len(drawn) // 5]
    keys = [choice.sample_id for choice in gone]
    for key in keys:
        production.label([key], 1.0, answer=None)
    with ledger.begin() as connection:
        mine = labeling_tasks.c.sample_id.in_(keys)
        connection.execute(update(labeling_tasks).where(mine).values(state="refused"))
    found = estimate_production(loop, 0)
    mass = {choice.sample_id: 1 / choice.inclusion_probability for choice in drawn}
    share = sum(mass[key] for key in keys) / sum(mass.values())
    assert found.unanswered == pytest.approx(share)
    low, high = (1 - share) * found.estimate.low, (1 - share) * found.estimate.high + share
    assert found.bounds == pytest.approx((low, high))


def test_what_is_still_with_annotators_is_not_counted_as_unanswered(loop, night):
    night(0)
    found = estimate_production(loop, 0)
    assert (found.unanswered, found.bounds) == (0.0, None)
