"""Which rows make an epoch, which only choose the best step, and what a row weighs."""

import pickle
from collections import Counter

import numpy as np
import pytest
import torch

from flywheel.errors import UserError
from flywheel.records import Sample
from flywheel.settings.learning import Train
from flywheel.train.data import (
    FiledSamples,
    check_learnable,
    make_plan,
    pick,
    some_groups,
)
from flywheel.train.rows import row_weights


@pytest.fixture
def mixed(training_data):
    """(start, production, **changes) -> so many rows of each."""

    def build(start, production, **changes):
        origins = ["start"] * start + ["targeted"] * production
        return training_data(start + production, **({"origins": origins} | changes))

    return build


def plan_of(data, seed=0, **settings):
    return make_plan(data, Train(**settings), seed)


def draws(plan, epochs=1):
    generator = torch.Generator().manual_seed(0)
    return [plan.draw(generator).tolist() for _ in range(epochs)]


def test_a_row_without_a_label_by_annotators_weighs_its_reliability():
    weights = row_weights(["start", "sensor", "worked", "failed"], [1.0, 0.5, 0.25, 0.25])
    assert (weights / weights[0]).tolist() == pytest.approx([1.0, 0.5, 0.25, 0.25])
    assert weights.mean() == pytest.approx(1)


def test_the_weights_of_labels_by_annotators_do_not_count():
    """A row of the probability share has 1 / inclusion probability, for the test set."""
    assert set(row_weights(["start", "probability", "targeted"], [5.0, 9.0, 1.0])) == {1.0}


def test_a_weight_and_a_group_are_for_every_sample_or_for_none(training_data):
    with pytest.raises(ValueError, match="60 samples have 1 weights; pass one for each"):
        training_data(weights=[1.0])
    with pytest.raises(ValueError, match="60 samples have 2 groups; pass one for each"):
        training_data(groups=["a", "b"])


def test_every_sample_needs_an_answer(training_data):
    with pytest.raises(ValueError, match="60 samples have 1 answers"):
        training_data(answers=["left"])


@pytest.mark.parametrize(
    ("start", "production", "wanted", "share"),
    [
        (100, 100, 0.8, 0.8),
        (100, 900, 0.8, 0.9),  # never less than its own part
        (100, 100, 0.0, 0.5),
        (96, 3, 0.8, 1 / 3),  # 16 * 3 / (16 * 3 + 96): not learned by heart
        (10, 0, 0.8, 0.0),
        (0, 10, 0.8, 1.0),
    ],
)
def test_production_fills_its_share_of_each_epoch(mixed, start, production, wanted, share):
    plan = plan_of(mixed(start, production), production_share=wanted)
    (rows,) = draws(plan)
    assert len(rows) == start + production
    assert sum(row >= start for row in rows) == round(share * len(rows))
    assert plan.production_share == pytest.approx(share, abs=0.01)


def test_labels_fill_half_of_the_share_of_production_however_many_outcomes_there_are(mixed):
    origins = ["start"] * 100 + ["targeted"] * 80 + ["worked"] * 700 + ["failed"] * 120
    plan = plan_of(mixed(100, 900, origins=origins), production_share=0.8)
    counts = Counter(origins[row] for row in draws(plan)[0])
    assert (counts["start"], counts["targeted"]) == (100, 450)
    assert counts["worked"] + counts["failed"] == 450


def test_outcomes_alone_fill_the_share_of_production(mixed):
    plan = plan_of(mixed(50, 50, origins=["start"] * 50 + ["worked"] * 50), production_share=0.8)
    assert sum(row >= 50 for row in draws(plan)[0]) == 80


def test_start_rows_are_drawn_afresh_and_production_rows_equally_often(mixed):
    first, second = draws(plan_of(mixed(60, 20)), epochs=2)
    assert {row for row in first if row < 60} != {row for row in second if row < 60}
    counts = Counter(row for row in first if row >= 60)
    assert len(counts) == 20
    assert set(counts.values()) <= {3, 4}  # 64 draws of 20 rows


def test_the_validation_part_holds_whole_groups_that_do_not_train(mixed):
    groups = [f"scene {row // 4}" for row in range(400)]
    plan = plan_of(mixed(200, 200, groups=groups), validation_share=0.25)
    trains = {groups[row] for row in plan.training}
    held = {groups[row] for row in plan.validation}
    assert trains | held == set(groups)
    assert not trains & held
    assert 60 < len(plan.validation) < 140


def test_another_night_holds_other_groups_back(mixed):
    data = mixed(200, 200)
    first, second = (set(plan_of(data, seed, validation_share=0.2).validation) for seed in (1, 2))
    assert first != second
    assert first == set(plan_of(data, 1, validation_share=0.2).validation)


def test_rows_without_a_label_are_held_back_with_their_group_and_never_validate(mixed):
    origins = ["start"] * 300 + ["worked"] * 50 + ["failed"] * 50
    plan = plan_of(mixed(300, 100, origins=origins), validation_share=0.2)
    held = some_groups(mixed(300, 100), 0.2, 0)
    assert plan.validation.tolist() == np.flatnonzero(held[:300]).tolist()
    assert not held[plan.training].any()


@pytest.mark.parametrize(
    ("changes", "note"),
    [
        ({}, "labels to validate on are fewer than 20"),
        ({"groups": ["one"] * 60}, "0 labels to validate on are fewer than 20"),
    ],
)
def test_without_enough_labels_in_other_groups_all_rows_train(training_data, changes, note):
    plan = plan_of(training_data(60, **changes), validation_share=0.1)
    assert (len(plan.validation), len(plan.training)) == (0, 60)
    assert note in plan.note


def test_a_validation_part_that_holds_all_but_one_answer_is_given_up(training_data):
    groups = ["a"] * 30 + ["b"] * 30
    data = training_data(answers=["left"] * 30 + ["right"] * 30, groups=groups)
    held = next(seed for seed in range(99) if 20 < some_groups(data, 0.5, seed).sum() < 40)
    plan = plan_of(data, held, validation_share=0.5)
    assert (len(plan.validation), len(plan.training)) == (0, 60)
    assert plan.note.endswith("fewer than 2 answers to learn")


def test_failed_rows_alone_teach_no_answer(training_data):
    with pytest.raises(UserError, match="there are 0 training rows and at least 2 are needed"):
        check_learnable(training_data(origins=["failed"] * 60))


def test_filed_samples_are_those_that_were_written_in_another_process_too(tmp_path):
    samples = [Sample.of(bytes([row]) * row, "text/plain", {"row": row}) for row in range(5)]
    filed = pickle.loads(pickle.dumps(FiledSamples.write(tmp_path / "samples", iter(samples))))
    assert list(filed) == samples
    assert filed[1:3] == samples[1:3]
    assert list(pick(filed, [4, 0, 4])) == [samples[4], samples[0], samples[4]]
    assert len(pickle.dumps(filed)) < 2_000
