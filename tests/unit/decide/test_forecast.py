"""Forecasts against what then happens, and when a challenge is hopeless."""

import numpy as np
import pytest

from flywheel.decide.gate import _outlook
from flywheel.decide.plan import Forecast, forecast
from flywheel.metrics.eprocess import e_values
from flywheel.records import FreshOutcomes

ALPHA = 0.017


def outcomes(wins, losses, ties, *, is_bounded=True, scale=1.0):
    gains = (1.0,) * wins + (-1.0,) * losses + (0.0,) * ties
    return FreshOutcomes(
        gains=gains, scales=(scale,) * len(gains), is_bounded=is_bounded, num_new=len(gains)
    )


def test_four_intervals_in_five_hold_what_then_happens():
    """Of 40 challenges with gains between -5 and 15 points; the proof has hundreds."""
    rng, ahead, held, number = np.random.default_rng(5), 200, 0, 40
    for _ in range(number):
        gain, others = rng.uniform(-0.05, 0.15), rng.uniform(0.02, 0.1)
        chances = np.array([max(gain, 0) + others / 2, max(-gain, 0) + others / 2])
        gains = rng.choice([1.0, -1.0, 0.0], 60 + ahead, p=[*chances, 1 - chances.sum()])
        fresh = FreshOutcomes(
            gains=tuple(gains), scales=(1.0,) * len(gains), is_bounded=True, num_new=0
        )
        enough = np.flatnonzero(e_values(fresh, 0.0)[60:] >= 1 / ALPHA)
        came = enough[0] + 1 if len(enough) else ahead + 1
        wins, losses = ((gains[:60] == side).sum() for side in (1, -1))
        seen = forecast(outcomes(wins, losses, 60 - wins - losses), 0.0, ALPHA, ahead)
        low, high = (ahead + 1 if end is None else end for end in (seen.low, seen.high))
        held += low <= came <= high
    assert 0.7 <= held / number <= 1.0


@pytest.mark.parametrize(("shares", "range_"), [((12, 3), (0.8, 1.0)), ((4, 5), (0.0, 0.05))])
def test_the_chance_follows_the_evidence(shares, range_):
    seen = forecast(outcomes(*shares, 85), 0.0, ALPHA, 300)
    assert range_[0] <= seen.chance <= range_[1]


def test_more_evidence_takes_fewer_labels():
    few, many = (forecast(outcomes(wins, 2, 60), 0.0, ALPHA, 300) for wins in (6, 12))
    assert (few.low, few.chance) > (many.low, 0.0)
    assert many.chance > few.chance
    assert many.high is not None


def test_the_same_labels_have_the_same_forecast():
    assert forecast(outcomes(6, 2, 60), 0.0, ALPHA, 50) == forecast(
        outcomes(6, 2, 60), 0.0, ALPHA, 50
    )


def test_a_lucky_start_is_no_certainty():
    """Three wins and no loss: the true gain may still be small."""
    seen = forecast(outcomes(3, 0, 57), 0.0, ALPHA, 300)
    assert 0.3 < seen.chance < 0.98


@pytest.mark.parametrize(("wins", "ahead"), [(0, 100), (3, 0), (3, -5)])
def test_without_labels_or_room_there_is_nothing_ahead(wins, ahead):
    seen = forecast(outcomes(wins, 0, 0), 0.0, ALPHA, ahead)
    assert seen == Forecast(low=None, high=None, chance=0.0, ahead=max(ahead, 0))


def test_gains_without_bound_say_nothing_before_their_scale_is_known():
    unknown = forecast(outcomes(5, 4, 60, is_bounded=False), 0.0, ALPHA, 100)
    assert (unknown.low, unknown.high, unknown.chance) == (None, None, 1.0)
    known = forecast(outcomes(30, 2, 60, is_bounded=False), 0.0, ALPHA, 400)
    assert known.low is not None
    assert known.chance > 0.5


def test_labels_that_only_give_the_scale_are_no_forecast():
    """It said that a gain is not likely to be shown, and in the same sentence that the chance is 100 %."""
    said = _outlook(Forecast(low=None, high=None, chance=1.0, ahead=348))
    assert said.startswith("no forecast yet")
    hopeless = _outlook(Forecast(low=None, high=None, chance=0.04, ahead=348))
    assert (
        "is not likely to be shown; the chance that it is shown within 348 more is 4%" in hopeless
    )
