import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flywheel.evaluate.stats import Scored, estimate_mean, paired_difference, weighted_mean


def test_hajeks_mean_is_its_definition(scored, rng):
    values, weights = rng.normal(size=30), rng.lognormal(size=30)
    slow = sum(w * y for w, y in zip(weights, values, strict=True)) / sum(weights)
    assert weighted_mean(scored(values, weights)) == pytest.approx(slow)


def test_hajeks_mean_undoes_uneven_drawing(scored):
    rng = np.random.default_rng(5)
    values = (rng.random(20_000) < 0.9).astype(float)
    chance = np.where(values == 0, 0.5, 0.05)
    drawn = rng.random(20_000) < chance
    estimate = weighted_mean(scored(values[drawn], 1 / chance[drawn]))
    assert estimate == pytest.approx(0.9, abs=0.02)
    assert values[drawn].mean() < 0.6


@given(
    values=st.lists(st.sampled_from([0.0, 1.0, 0.5, -3.0, 1e6]), min_size=5, max_size=12),
    seed=st.integers(0, 99),
)
def test_every_interval_holds_its_value_and_has_a_width(values, seed):
    ids = tuple(map(str, range(len(values))))
    weights = np.random.default_rng(seed).lognormal(size=len(values))
    one = Scored(ids=ids, values=np.array(values), weights=weights)
    estimate = estimate_mean(one, np.random.default_rng(seed))
    assert estimate.low <= estimate.value <= estimate.high
    assert estimate.low < estimate.high
    assert estimate.num_samples == len(values)


@pytest.mark.parametrize("shape", ["normal", "exponential"])
def test_intervals_of_skewed_scores_with_uneven_weights_cover(scored, shape):
    rng, covered = np.random.default_rng(6), 0
    for _ in range(300):
        values = rng.exponential(size=60) if shape == "exponential" else rng.normal(1, 1, 60)
        estimate = estimate_mean(scored(values, rng.lognormal(0, 0.5, 60)), rng)
        covered += estimate.low <= 1 <= estimate.high
    assert covered / 300 >= 0.92


def test_paired_differences_of_errors_cover(scored):
    rng, covered = np.random.default_rng(7), 0
    for _ in range(300):
        base, weights = rng.exponential(size=50), rng.lognormal(0, 0.5, 50)
        gain = rng.normal(0.2, 0.5, 50)
        difference = paired_difference(scored(base + gain, weights), scored(base, weights), rng)
        covered += difference.low <= 0.2 <= difference.high
    assert covered / 300 >= 0.92


def test_pairing_makes_a_small_gain_visible(scored, rng):
    base = rng.exponential(5.0, 60)
    better, worse = scored(base + 0.1 + 0.01 * rng.normal(size=60)), scored(base)
    assert paired_difference(better, worse, rng).low > 0.09
    assert estimate_mean(better, rng).low < estimate_mean(worse, rng).high


@pytest.mark.parametrize("values", [[1.0] * 50, [0.0] * 50, [2.5] * 50])
def test_no_discordant_pair_has_an_honest_width_on_both_sides(scored, rng, values):
    same = paired_difference(scored(values), scored(values), rng)
    assert same.value == 0
    assert same.low < -0.03
    assert same.high > 0.03


def test_fewer_than_five_samples_give_no_number(scored, rng):
    four = scored([1, 0, 1, 1])
    assert estimate_mean(four, rng) is None
    assert paired_difference(four, four, rng) is None


def test_permuted_ids_are_refused(scored, rng):
    right = scored([1, 0, 1, 1, 0])
    ids = ("s1", "s0", *right.ids[2:])
    wrong = Scored(ids=ids, values=right.values, weights=right.weights)
    with pytest.raises(ValueError, match="row 0 is sample s0 for the candidate and s1"):
        paired_difference(right, wrong, rng)


def test_unequal_lengths_and_weights_are_refused(scored, rng):
    six, five = scored([1, 0, 1, 1, 0, 1]), scored([1, 0, 1, 1, 0])
    with pytest.raises(ValueError, match="6 scores of the candidate and 5"):
        paired_difference(six, five, rng)
    with pytest.raises(ValueError, match="weights are not the champion's"):
        paired_difference(five, scored([1, 0, 1, 1, 0], [2, 1, 1, 1, 1]), rng)


@pytest.mark.parametrize(
    ("values", "weights", "message"),
    [
        ([1, np.nan], [1, 1], "score of sample s1 is nan"),
        ([1, np.inf], [1, 1], "score of sample s1 is inf"),
        ([1, 1], [1, 0], "weight of sample s1 is 0"),
        ([1, 1], [np.nan, 1], "weight of sample s0 is nan"),
        ([1, 1], [1], "2 scores and 1 weights"),
    ],
)
def test_numbers_that_are_none_are_refused_by_sample(scored, values, weights, message):
    with pytest.raises(ValueError, match=message):
        scored(values, weights)


def test_a_sample_twice_is_refused():
    with pytest.raises(ValueError, match="sample a is there twice"):
        Scored(ids=("a", "b", "a"), values=np.ones(3), weights=np.ones(3))
