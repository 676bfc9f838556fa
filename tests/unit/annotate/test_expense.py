"""Costs of labels: all that was paid over all that came of it, for any group of annotations."""

import dataclasses

import numpy as np
import pytest

from flywheel.annotate.cost import Costed
from flywheel.annotate.evidence import slices_of
from flywheel.annotate.expense import expense, expenses_by, trend
from flywheel.blobs import Blobs
from flywheel.ledger.annotators import Work
from flywheel.records import Purpose, Split


def row(sample, person="ada", money=1.0, **changes):
    fields = {
        "annotator": person,
        "sample_id": sample,
        "purpose": Purpose.CHOICE,
        "split": Split.TRAIN,
        "campaign": 1,
        "night": 0,
        "seconds": 60.0,
        "is_given": True,
        "is_answer": True,
        "at": None,
    }
    return Costed(Work(**(fields | changes)), minutes=money, money=money)


def test_nothing_paid_is_nothing_known():
    found = expense([], {})
    assert (found.num_answers, found.num_labels, found.money) == (0, 0, 0.0)
    assert found.money_per_label is None
    assert found.minutes_per_answer is None


def test_a_label_costs_all_answers_on_all_samples_over_the_labels():
    """Ten samples of two answers, of which eight came to a label, and a gold one beside them."""
    rows = [row(f"s{n}", person) for n in range(10) for person in ("ada", "ben")]
    rows.append(row("gold", purpose=Purpose.GOLD))
    labels = {f"s{n}": 0.8 for n in range(8)}
    found = expense(rows, labels)
    assert (found.num_annotations, found.num_answers, found.num_labels) == (21, 21, 8)
    assert found.money_per_label.value == pytest.approx(21 / 8)
    assert found.money_per_right_label.value == pytest.approx(21 / 6.4)
    assert found.money_per_answer.value == pytest.approx(1.0)
    assert found.money_per_label.low < 21 / 8 < found.money_per_label.high


def test_skips_are_paid_and_are_no_answers():
    rows = [row(f"s{n}") for n in range(10)] + [row(f"s{n}", is_given=False) for n in range(5)]
    found = expense(rows, {})
    assert (found.num_annotations, found.num_answers) == (15, 10)
    assert found.minutes_per_answer.value == pytest.approx(1.5)


def test_labels_that_test_cost_money_and_train_nothing():
    rows = [row(f"s{n}", split=Split.TEST if n % 2 else Split.TRAIN) for n in range(20)]
    found = expense(rows, {f"s{n}": 1.0 for n in range(20)})
    assert found.money_per_label.value == pytest.approx(1.0)
    assert found.money_per_training_label.value == pytest.approx(2.0)


def test_groups_may_overlap_and_need_not_hold_everything():
    rows = [row(f"s{n}") for n in range(6)]
    slices = {"s0": ("dark",), "s1": ("dark", "small"), "s2": ()}
    found = expenses_by(rows, {}, lambda one: slices.get(one.work.sample_id, ()))
    assert {name: one.num_answers for name, one in found.items()} == {"dark": 2, "small": 1}


@pytest.fixture
def some_samples(production, tmp_path):
    ids = [one.sample_id for one in production.predict(*[0.5] * 600)]
    return ids, Blobs.open(str(tmp_path / "blobs"))


def test_slices_are_those_of_the_task_and_what_is_lost_is_left_out(
    some_samples, production, points_task
):
    ids, blobs = some_samples
    sliced = dataclasses.replace(points_task, slices={"even": lambda one: one.payload[-1] % 2 == 0})
    with production.ledger.read() as connection:
        found = slices_of(connection, blobs, sliced, [*ids, "0" * 64])
        assert slices_of(connection, blobs, dataclasses.replace(sliced, slices={}), ids) == {}
    assert list(found) == ids
    assert set(found.values()) == {("even",), ()}


def nights(values):
    rows = {
        night: [row(f"{night} {n}", money=value) for n in range(30)]
        for night, value in enumerate(values)
    }
    every = {f"{night} {n}": 0.9 for night in rows for n in range(30)}
    return {night: expense(of, every) for night, of in rows.items()}


def test_the_trend_is_a_share_a_night_with_an_interval():
    found = trend(nights(0.97 ** np.arange(12) * np.exp(0.01 * (-1.0) ** np.arange(12))))
    assert found.value == pytest.approx(-0.03, abs=0.005)
    assert found.low < -0.03 < found.high < 0
    assert found.num_samples == 12


def test_four_nights_are_no_trend():
    assert trend(nights([1.0, 0.9, 0.8, 0.7])) is None
