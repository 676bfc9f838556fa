"""The learning curve: its interval holds what comes, and what cannot be reached is said to be out of reach."""

import math
from dataclasses import astuple
from functools import partial

import numpy as np
import pytest
from proofs.prove_curve import LABELS, NIGHTS, lives
from proofs.prove_forecast import forecasts, level_of

from flywheel.decide import curve as module
from flywheel.decide.curve import Measured
from flywheel.records import Estimate

fit_curve = partial(module.fit_curve, window=7)


def measured(curve, number=8, error=0.005, seed=0):
    rng = np.random.default_rng(seed)
    points = []
    for labels in 60 * np.arange(1, number + 1):
        value = curve(labels) + error * rng.standard_normal()
        half = 1.96 * error
        estimate = Estimate(value=value, low=value - half, high=value + half, num_samples=9)
        points.append(Measured(int(labels), estimate))
    return points


def errors(labels):
    return 0.02 + 0.3 * (1 + labels / 100) ** -0.8


def test_eight_of_ten_requirements_take_as_many_labels_as_the_interval_says():
    found = np.array(lives(60, 0.5, seed=1, skew=0.0))
    inside = (found[:, 0] <= NIGHTS * LABELS) & (found[:, 2] >= NIGHTS * LABELS)
    assert inside.mean() > 0.7


def test_an_accuracy_and_its_error_have_the_same_curve():
    accuracies = [
        Measured(
            n, Estimate(value=1 - one.value, low=1 - one.high, high=1 - one.low, num_samples=9)
        )
        for n, one, _ in measured(errors)
    ]
    up = fit_curve(accuracies, higher_is_better=True, optimum=None)
    down = fit_curve(measured(errors), higher_is_better=False, optimum=None)
    both = [astuple(one) for one in (up.labels_to(0.93), down.labels_to(0.07))]
    assert both[0] == pytest.approx(both[1], rel=0.01)
    assert up.at(1000).middle == pytest.approx(1 - down.at(1000).middle, abs=1e-3)


def test_more_labels_bring_more_and_each_further_one_less():
    curve = fit_curve(measured(errors), higher_is_better=False, optimum=0.0)
    first, later = curve.gain(480, 100), curve.gain(4800, 100)
    assert first.low > 0
    assert first.middle > later.middle > 0
    assert curve.at(480).middle == pytest.approx(errors(480), abs=0.01)


def test_what_no_label_reaches_is_out_of_reach():
    curve = fit_curve(measured(lambda n: 0.2 + 0.2 / n, 12), higher_is_better=False, optimum=0.0)
    assert curve.chance(0.1, 100 * 720) < 0.5
    assert math.isinf(curve.labels_to(0.1).high)


def test_a_metric_that_falls_is_no_gain():
    curve = fit_curve(measured(lambda n: 0.1 + n / 5000), higher_is_better=False, optimum=0.0)
    assert curve.gain(480, 100).middle < 0.005
    assert curve.labels_to(0.05).high == math.inf


def test_two_numbers_of_labels_are_no_curve():
    points = measured(errors, 2)
    assert fit_curve([*points, *points], higher_is_better=False, optimum=0.0) is None
    assert fit_curve([], higher_is_better=False, optimum=0.0) is None


def test_the_same_nights_have_the_same_forecast_whatever_their_unit():
    points, scaled = (
        [
            Measured(n, Estimate(value=k * e.value, low=k * e.low, high=k * e.high, num_samples=9))
            for n, e, _ in measured(errors)
        ]
        for k in (9, 99)
    )
    one, again, other = (
        fit_curve(these, higher_is_better=False, optimum=0.0) for these in (points, points, scaled)
    )
    assert one.labels_to(9 * 0.05) == again.labels_to(9 * 0.05)
    assert astuple(one.labels_to(9 * 0.05)) == pytest.approx(astuple(other.labels_to(99 * 0.05)))


def test_measurements_without_an_error_are_taken():
    points = [
        Measured(n, Estimate(value=e, low=e, high=e, num_samples=0))
        for n, e in ((9, 0.3), (20, 0.2), (60, 0.1))
    ]
    assert fit_curve(points, higher_is_better=False, optimum=0.0).at(60).middle == pytest.approx(
        0.1, abs=0.03
    )


def test_real_nights_are_compared_with_the_level_that_they_reached():
    """A project of messages whose error falls by half every 100 labels, from 300 of start data on."""
    run = [
        {
            "num_train": 300 + 40 * night,
            "trained": 1 - 0.08 * 0.5 ** (0.4 * night),
            "measured": None
            if night < 2
            else {
                "value": 1 - 0.08 * 0.5 ** (0.4 * night),
                "low": 0.9,
                "high": 1.0,
                "num_samples": 90,
            },
        }
        for night in range(16)
    ]
    level, aim = level_of(run, up=True)
    assert aim == 300 + 0.8 * 600
    assert level == pytest.approx(1 - 0.08 * 0.5**4.8, abs=1e-4)
    [(low, middle, high, truth, now)] = forecasts([run], "messages", 0.6)
    assert low <= truth <= high
    assert low <= middle <= high
    assert now == 580
    assert forecasts([run], "messages", 0.1) == []
