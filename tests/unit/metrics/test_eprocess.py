"""The evidence against its slow definition, its known values, and the law that makes it evidence."""

import itertools
import math

import numpy as np
import pytest
from scipy import stats

from flywheel.errors import TaskError
from flywheel.metrics.eprocess import e_value, e_values, rate_evidence
from flywheel.records import FreshOutcomes


@pytest.fixture
def outcomes():
    """(gains, scales=1, is_bounded=True) -> fresh outcomes."""

    def build(gains, scales=None, *, is_bounded=True):
        scales = np.ones(len(gains)) if scales is None else scales
        return FreshOutcomes(
            gains=tuple(map(float, gains)),
            scales=tuple(map(float, scales)),
            is_bounded=is_bounded,
            num_new=len(gains),
        )

    return build


def _slow(gains, scales, min_gain):
    """The definition, one bet and one label at a time."""
    stakes = []
    for bet in [math.sqrt((index + 0.5) / 16) for index in range(16)]:
        stake = 1.0
        for gain, scale in zip(gains, scales, strict=True):
            stake *= 1 + bet * scale * (gain - min_gain) / (1 + min_gain)
        stakes.append(stake)
    return sum(stakes) / len(stakes)


@pytest.mark.parametrize("min_gain", [0.0, 0.1, 0.9])
def test_it_is_the_mean_stake_of_the_bets(outcomes, min_gain):
    rng = np.random.default_rng(3)
    gains, scales = rng.uniform(-1, 1, 60), rng.uniform(0.1, 1, 60)
    path = e_values(outcomes(gains, scales), min_gain)
    slow = [_slow(gains[:count], scales[:count], min_gain) for count in range(1, 61)]
    np.testing.assert_allclose(path, slow, rtol=1e-9)


def test_for_gains_without_bound_it_is_the_mean_stake_of_the_tilts(outcomes):
    gains = np.random.default_rng(4).normal(3, 10, 40)
    scale = math.sqrt(sum(gains[:10] ** 2) / 10)
    tilts = [0.05 * 10 ** (index / 7) for index in range(8)]
    slow = np.mean([np.prod([1 + math.tanh(t * x / scale) for x in gains]) for t in tilts])
    assert e_value(outcomes(gains, is_bounded=False), 0.0) == pytest.approx(slow)


def test_one_win_is_worth_what_the_mean_bet_wins(outcomes):
    # Beta(2, 1) has the mean 2/3
    assert e_value(outcomes([1]), 0.0) == pytest.approx(5 / 3, abs=0.01)
    assert e_value(outcomes([-1]), 0.0) == pytest.approx(1 / 3, abs=0.01)


def test_nothing_and_ties_say_nothing(outcomes):
    assert e_value(outcomes([]), 0.0) == 1.0
    assert e_value(outcomes([0, 0, 0]), 0.0) == 1.0
    assert e_value(outcomes([0, 0, 0], is_bounded=False), 0.0) == 1.0


def test_a_tie_speaks_against_a_gain_above_the_least_useful_one(outcomes):
    assert e_value(outcomes([0, 0]), 0.05) < 1


@pytest.mark.parametrize("min_gain", [0.0, 0.25])
def test_the_expected_evidence_is_at_most_one_where_there_is_no_gain(outcomes, min_gain):
    """All 3^6 sequences of win, tie and loss, with their chances; the gain is just min_gain."""
    chance = {1: 0.2 + min_gain, 0: 0.6 - min_gain, -1: 0.2}
    total = sum(
        math.prod(chance[gain] for gain in gains) * e_value(outcomes(gains), min_gain)
        for gains in itertools.product(chance, repeat=6)
    )
    assert total == pytest.approx(1.0) if min_gain == 0 else total <= 1


def test_a_poisson_draw_expects_at_most_one_where_production_gains_nothing(outcomes):
    """All 2^8 samples of a population that wins where it is often drawn and loses elsewhere."""
    chances = np.array([0.9, 0.9, 0.9, 0.3, 0.3, 0.3, 0.3, 0.3])
    gains = np.array([1, 1, -1, -1, 1, -1, 0, 0])
    total = 0.0
    for drawn in itertools.product([True, False], repeat=8):
        mask = np.array(drawn)
        chance = math.prod(np.where(mask, chances, 1 - chances))
        total += chance * e_value(outcomes(gains[mask], 0.3 / chances[mask]), 0.0)
    assert 0.85 < total <= 1


@pytest.mark.parametrize("min_gain", [0.0, 0.2])
def test_where_models_answer_alike_a_scale_above_one_is_no_risk(outcomes, min_gain):
    """The draw leans: 4 samples differ and are drawn with 0.8, on 4 both answer alike, with 0.2."""
    chances, alike = np.array([0.8] * 4 + [0.2] * 4), np.array([False] * 4 + [True] * 4)
    constant = min(0.8, 0.2 * (1 + min_gain) / min_gain) if min_gain else 0.8
    values = []
    for gains in ([1, -1, 1, -1], [1, 1, 1, -1]):
        is_null = sum(gains) / 8 <= min_gain
        every, total = np.array([*gains, 0, 0, 0, 0]), 0.0
        for drawn in itertools.product([True, False], repeat=8):
            mask = np.array(drawn)
            fresh = outcomes(every[mask], constant / chances[mask])
            total += math.prod(np.where(mask, chances, 1 - chances)) * e_value(fresh, min_gain)
        values.append((is_null, total))
    assert all(total <= 1 for is_null, total in values if is_null)
    assert min_gain or values[1][1] > 1
    assert alike.sum() == 4


def test_without_bound_fair_signs_expect_one_whatever_the_sizes(outcomes):
    sizes = np.array([0.1, 5.0, 1.0, 0.2, 90.0, 1.0, 2.0, 3.0, 0.5, 7.0])
    signs = itertools.product([-1, 1], repeat=10)
    values = [e_value(outcomes(sizes * sign, is_bounded=False), 0.0) for sign in signs]
    assert np.mean(values) == pytest.approx(1.0)


def test_without_bound_it_is_not_below_the_self_normalised_bound(outcomes):
    gains = np.random.default_rng(5).standard_t(3, 50) + 0.5
    x = gains / math.sqrt(np.mean(gains[:10] ** 2))
    tilts = np.geomspace(0.05, 0.5, 8)
    bound = np.mean(np.exp(tilts * x.sum() - tilts**2 * (x**2).sum() / 2))
    assert e_value(outcomes(gains, is_bounded=False), 0.0) >= bound


def test_without_bound_nothing_is_said_before_the_scale_is_fixed(outcomes):
    path = e_values(outcomes([2, 0, 0] * 12, is_bounded=False), 0.0)
    assert (path[:27] == 1.0).all()
    assert (path[27:] > 1.0).all()


def test_the_unit_of_gains_without_bound_does_not_matter(outcomes):
    gains = np.random.default_rng(6).normal(1, 2, 30)
    degrees, radians = (outcomes(gains * unit, is_bounded=False) for unit in (1, math.pi / 180))
    assert e_value(degrees, 0.0) == pytest.approx(e_value(radians, 0.0))


def test_the_order_of_bounded_gains_does_not_matter(outcomes):
    rng = np.random.default_rng(7)
    gains, scales = rng.uniform(-1, 1, 50), rng.uniform(0.1, 1, 50)
    order = rng.permutation(50)
    mixed = outcomes(gains[order], scales[order])
    assert e_value(outcomes(gains, scales), 0.0) == pytest.approx(e_value(mixed, 0.0))


def test_looking_every_night_promotes_no_gain_with_a_chance_of_at_most_alpha(outcomes):
    rng, lives, alpha = np.random.default_rng(8), 600, 0.1
    draws = rng.choice([-1, 0, 1], (lives, 300), p=[0.15, 0.7, 0.15])
    fooled = sum(e_values(outcomes(draw), 0.0).max() >= 1 / alpha for draw in draws)
    assert stats.binom.sf(fooled - 1, lives, alpha) > 0.01
    assert fooled > 10  # else the law would hold for a test that never says anything


def test_a_thousand_wins_are_a_finite_number(outcomes):
    assert math.isfinite(e_value(outcomes(np.ones(3000)), 0.0))


@pytest.mark.parametrize(
    ("gains", "scales", "is_bounded", "min_gain", "error", "message"),
    [
        ([1.5], [1], True, 0, TaskError, r"gain = 1\.5; it must be in the range -1 to 1"),
        ([math.nan], [1], True, 0, TaskError, r"gain = nan; it must be in the range -1 to 1"),
        (
            [math.inf],
            [1],
            False,
            0,
            TaskError,
            r"gain = inf; it must be in the range of finite numbers",
        ),
        ([0], [7], True, 0.25, ValueError, r"scale = 7\.0; it must be in \(0, 1\], or above 0 for"),
        ([1], [0], True, 0, ValueError, r"scale = 0\.0; it must be in \(0, 1\]"),
        ([1], [math.nan], True, 0, ValueError, r"scale = nan; it must be in \(0, 1\]"),
        ([1], [1.01], True, 0, ValueError, r"scale = 1\.01; it must be in \(0, 1\]"),
        ([1, 1], [1], True, 0, ValueError, r"2 gains have 1 scales"),
        ([1], [1], True, 1, ValueError, r"min_gain = 1; .*below 1"),
        ([1], [1], False, -1, ValueError, r"min_gain = -1; it must be 0 or more"),
        ([1], [1], False, math.nan, ValueError, r"min_gain = nan"),
    ],
)
def test_impossible_outcomes_are_refused(
    outcomes, gains, scales, is_bounded, min_gain, error, message
):  # fmt: skip
    with pytest.raises(error, match=message):
        e_value(outcomes(gains, scales, is_bounded=is_bounded), min_gain)


@pytest.mark.parametrize(("num_bad", "number"), [(0, 0), (0, 5), (3, 7), (40, 40), (30, 2_000)])
def test_evidence_of_a_rate_is_that_of_its_requests_one_by_one(outcomes, num_bad, number):
    gains = [1.0] * num_bad + [0.0] * (number - num_bad)
    assert rate_evidence(num_bad, number, 0.1) == pytest.approx(e_value(outcomes(gains), 0.1))


def test_a_rate_at_its_limit_is_stopped_as_seldom_as_was_said_however_often_one_looks():
    rng = np.random.default_rng(7)
    stopped = 0
    for bad in rng.random((300, 400)) < 0.1:
        total = np.cumsum(bad)
        stopped += any(rate_evidence(int(total[n]), n + 1, 0.1) >= 20 for n in range(0, 400, 5))
    assert stopped / 300 <= 0.05
