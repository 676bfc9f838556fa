"""Known answers, slow definitions, and coverage by simulation."""

import math

import numpy as np
import pytest
from scipy import stats

from flywheel.evaluate.intervals import by_cluster, kish_size, student, tango, wilson


def test_wilson_without_weights_is_scipys_wilson_at_the_size_of_the_sample():
    values = np.array([1.0] * 70 + [0.0] * 30)
    size = 99  # V carries n / (n - 1), so that n_eff is n - 1
    z, p = stats.norm.isf(0.025), 0.7
    centre = (p + z**2 / (2 * size)) / (1 + z**2 / size)
    half = z * math.sqrt(p * (1 - p) / size + z**2 / (4 * size**2)) / (1 + z**2 / size)
    assert wilson(values, np.ones(100), 0.025) == pytest.approx((centre - half, centre + half))
    theirs = stats.binomtest(70, 100).proportion_ci(method="wilson")
    assert wilson(values, np.ones(100), 0.025) == pytest.approx(tuple(theirs), abs=2e-3)


def test_wilson_of_a_rate_without_failure_still_has_a_width():
    low, high = wilson(np.ones(30), np.ones(30), 0.025)
    assert (low, high) == pytest.approx((30 / (30 + 1.959964**2), 1.0))


@pytest.mark.parametrize(
    ("rate", "number", "spread"), [(0.7, 40, 0.0), (0.9, 60, 1.0), (0.97, 80, 1.0)]
)
def test_wilson_covers_when_the_hard_ones_are_drawn_more_often(rate, number, spread):
    rng, covered, population = np.random.default_rng(1), 0, 3000
    for _ in range(600):
        values = (rng.random(population) < rate).astype(float)
        pull = np.where(values == 0, 1.0, 0.3) * rng.lognormal(0, 0.3, population)
        uneven = 0.7 * pull / pull.sum() + 0.3 / population
        chance = number * (uneven if spread else np.full(population, 1 / population))
        drawn = rng.random(population) < chance
        low, high = wilson(values[drawn], 1 / chance[drawn], 0.025)
        covered += low <= rate <= high
    assert covered / 600 >= 0.92


@pytest.mark.parametrize(
    ("better", "worse", "number"), [(8, 2, 60), (0, 0, 40), (5, 0, 30), (30, 25, 80)]
)
def test_tango_is_the_set_of_differences_that_a_score_test_keeps(better, worse, number):
    differences = np.array([1.0] * better + [-1.0] * worse + [0.0] * (number - better - worse))
    low, high = tango(differences, np.ones(number), 0.025)
    grid = np.linspace(-0.999, 0.999, 2001)
    kept = [d for d in grid if _keeps(better, worse, number, d)]
    assert (low, high) == pytest.approx((min(kept), max(kept)), abs=2e-3)


def _keeps(better, worse, number, d):
    """The score test by its definition: the likelihood maximised on a grid, not in closed form."""
    shares = np.linspace(max(0, -d), (1 - d) / 2, 4001)  # of -1; +1 has share + d
    with np.errstate(divide="ignore", invalid="ignore"):
        same = np.clip(1 - 2 * shares - d, 0, 1)
        counts = ((better, shares + d), (worse, shares), (number - better - worse, same))
        likelihood = sum(n * np.log(p) if n else 0 * p for n, p in counts)
    share = shares[np.nanargmax(likelihood)]
    variance = number * (2 * share + d - d * d)
    return (abs(better - worse - number * d) - 1) <= 1.959964 * math.sqrt(max(variance, 0))


def test_no_discordant_pair_gives_a_width_like_the_rule_of_three():
    low, high = tango(np.zeros(300), np.ones(300), 0.05)
    assert low == -high
    assert 3 / 300 < high < 6 / 300


@pytest.mark.parametrize("spread", [0.0, 1.0])
@pytest.mark.parametrize("tail", [0.025, 0.002])
@pytest.mark.parametrize(("better", "worse"), [(0.05, 0.05), (0.1, 0.02), (0.02, 0.1)])
def test_each_bound_of_tango_fails_no_more_often_than_it_may(better, worse, tail, spread):
    rng, missed, rounds = np.random.default_rng(2), np.zeros(2), 600
    for _ in range(rounds):
        draws = rng.random(100)
        differences = np.where(draws < better, 1.0, np.where(draws < better + worse, -1.0, 0.0))
        low, high = tango(differences, rng.lognormal(0, spread, 100), tail)
        missed += [low > better - worse, high < better - worse]
    assert (stats.binom.sf(missed - 1, rounds, tail) > 0.001).all(), missed


def test_four_wins_to_none_prove_nothing():
    # Chance alone gives them in 1 of 16; without continuity correction they would pass.
    assert tango(np.array([1.0] * 4 + [0.0] * 96), np.ones(100), 0.025)[0] <= 0
    assert tango(np.array([1.0] * 8 + [0.0] * 92), np.ones(100), 0.025)[0] > 0


def test_scaling_all_weights_changes_nothing(rng):
    values = (rng.random(50) < 0.8).astype(float)
    weights = rng.lognormal(0, 1, 50)
    for interval in (wilson, student, tango):
        assert interval(values, weights, 0.025) == pytest.approx(
            interval(values, 9 * weights, 0.025)
        )


def test_clusters_of_one_change_nothing(rng):
    values, weights = (rng.random(50) < 0.8).astype(float), rng.lognormal(0, 1, 50)
    for interval in (wilson, tango):
        plain = interval(values, weights, 0.025)
        assert interval(values, weights, 0.025, np.arange(50)[::-1]) == plain


def test_rows_that_repeat_their_cluster_count_once_and_with_students_quantile():
    values, clusters = np.array([1.0] * 30 + [0.0] * 10), np.tile(np.arange(40), 5)
    low, high = wilson(np.tile(values, 5), np.ones(200), 0.025, clusters)
    wider = (stats.t.isf(0.025, 39) / stats.norm.isf(0.025)) ** 2
    size, z, p = 39 / wider, stats.norm.isf(0.025), 0.75
    centre = (p + z**2 / (2 * size)) / (1 + z**2 / size)
    half = z * math.sqrt(p * (1 - p) / size + z**2 / (4 * size**2)) / (1 + z**2 / size)
    assert (low, high) == pytest.approx((centre - half, centre + half))


def test_equal_rates_of_few_clusters_count_as_few():
    clusters = np.arange(60) // 10
    low, _ = wilson(np.ones(60), np.ones(60), 0.025, clusters)
    assert low == wilson(np.ones(6), np.ones(6), 0.025)[0]
    assert tango(np.zeros(60), np.ones(60), 0.025, clusters) == tango(
        np.zeros(6), np.ones(6), 0.025
    )


def test_the_mean_and_its_variance_over_clusters_are_those_over_rows(rng):
    values, weights, clusters = rng.normal(size=60), rng.lognormal(size=60), rng.integers(0, 9, 60)
    means, totals = by_cluster(values, weights, clusters)
    mean = np.average(values, weights=weights)
    slow = [(weights * (values - mean))[clusters == one].sum() ** 2 for one in range(9)]
    assert np.average(means, weights=totals) == pytest.approx(mean)
    assert ((totals * (means - mean)) ** 2).sum() == pytest.approx(sum(slow))


def test_student_without_weights_is_the_textbook_interval(rng):
    values = rng.normal(size=25)
    theirs = stats.ttest_1samp(values, 0).confidence_interval(0.95)
    assert student(values, np.ones(25), 0.025) == pytest.approx(tuple(theirs))


def test_one_heavy_sample_among_light_ones_counts_for_one():
    assert kish_size(np.array([1e6, 1.0, 1.0, 1.0])) == pytest.approx(1.0, abs=1e-4)
    assert kish_size(np.full(12, 7.0)) == pytest.approx(12)
