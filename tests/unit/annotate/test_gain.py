"""The gain of the next batch: with an interval that separates luck from a trend, or not at all."""

import numpy as np
import pytest

from flywheel.annotate.expense import Point, expected_gain
from flywheel.records import Estimate


def near(value, width=0.01):
    return Estimate(value=value, low=value - width, high=value + width, num_samples=100)


def curve(number, *, slope=0.05, noise=0.0, seed=0, width=0.01):
    rng = np.random.default_rng(seed)
    rows = [100 + 40 * night for night in range(number)]
    values = [0.5 + slope * np.log(n) + noise * rng.normal() for n in rows]
    return [
        Point(night, n, near(v, width))
        for night, (n, v) in enumerate(zip(rows, values, strict=True))
    ]


def test_too_few_nights_are_said_to_be_too_few():
    found = expected_gain(curve(4), 30, near(0.5), higher_is_better=True)
    assert (found.gain, found.per_money) == (None, None)
    assert found.note == "not enough nights yet: 4 with a measured candidate, 5 are needed"
    assert found.money.value == pytest.approx(15.0)


def test_nights_that_bought_hardly_any_rows_are_no_curve():
    flat = [one._replace(num_train=100 + one.night) for one in curve(9)]
    found = expected_gain(flat, 30, near(0.5), higher_is_better=True)
    assert found.gain is None
    assert "grew from 100 to 108, a curve needs 1.2 times as many" in found.note


def test_the_gain_follows_the_curve_and_its_quotient_the_money():
    points = curve(12)
    found = expected_gain(points, 40, near(0.5), higher_is_better=True)
    assert found.gain.value == pytest.approx(0.05 * np.log1p(40 / points[-1].num_train))
    assert found.gain.low < found.gain.value < found.gain.high
    assert found.per_money.value == pytest.approx(found.gain.value / 20.0)
    assert found.note == "from 12 nights, if it goes on as they went"


def test_an_error_that_falls_is_a_gain():
    points = curve(12, slope=-0.05)
    assert expected_gain(points, 40, None, higher_is_better=False).gain.value > 0


def test_metrics_that_are_hardly_known_give_a_wide_interval_however_straight_the_line():
    sharp, blunt = (
        expected_gain(curve(8, width=w), 40, near(0.5), higher_is_better=True) for w in (0.001, 0.1)
    )
    assert sharp.gain.low > 0
    assert blunt.gain.low < 0 < blunt.gain.high
    assert blunt.per_money.low < 0 < blunt.per_money.high


def test_without_a_cost_there_is_a_gain_and_no_quotient():
    found = expected_gain(curve(8), 40, None, higher_is_better=True)
    assert found.gain is not None
    assert found.per_money is None
    assert found.note.endswith("what a label costs has too little data")


def test_the_interval_holds_the_truth_as_often_as_it_says():
    truth, kept = 0.05 * np.log1p(40 / (100 + 40 * 9)), []
    for seed in range(400):
        points = curve(10, noise=0.01, seed=seed, width=0.0001)
        gain = expected_gain(points, 40, None, higher_is_better=True).gain
        kept.append(gain.low <= truth <= gain.high)
    assert 0.92 < np.mean(kept) < 0.98
