from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flywheel.evaluate.stats import Measured, estimate, paired_difference
from flywheel.metrics.compiled import compile_formula

MEAN, MEDIAN = compile_formula("y", None), compile_formula("y.median", None)
RECALL = compile_formula("predicted.recall(actual)", None)


def measured(values=None, weights=None, clusters=None, **scores):
    """The score y, or those named, of samples s0, s1, ..."""
    scores = {"y": values} if values is not None else scores
    scores = {name: np.asarray(column, dtype=float) for name, column in scores.items()}
    size = len(next(iter(scores.values())))
    return Measured(
        ids=tuple(f"s{index}" for index in range(size)),
        scores=scores,
        weights=np.ones(size) if weights is None else np.asarray(weights, dtype=float),
        clusters=np.arange(size) if clusters is None else np.asarray(clusters),
    )


def test_the_mean_undoes_uneven_drawing():
    rng = np.random.default_rng(5)
    values = (rng.random(20_000) < 0.9).astype(float)
    chance = np.where(values == 0, 0.5, 0.05)
    drawn = rng.random(20_000) < chance
    found = estimate(MEAN, measured(values[drawn], 1 / chance[drawn]), rng)
    assert found.value == pytest.approx(0.9, abs=0.02)
    assert values[drawn].mean() < 0.6


@given(
    values=st.lists(st.sampled_from([0.0, 1.0, 0.5, -3.0, 1e6]), min_size=5, max_size=12),
    seed=st.integers(0, 99),
)
def test_every_interval_of_a_mean_holds_its_value_and_has_a_width(values, seed):
    rng = np.random.default_rng(seed)
    found = estimate(MEAN, measured(values, rng.lognormal(size=len(values))), rng)
    assert found.low <= found.value <= found.high
    assert found.low < found.high
    assert found.num_samples == len(values)


def test_pairing_makes_a_small_gain_visible(rng):
    base = rng.exponential(5.0, 60)
    better, worse = measured(base + 0.1 + 0.01 * rng.normal(size=60)), measured(base)
    assert paired_difference(MEAN, better, worse, rng).low > 0.09
    assert estimate(MEAN, better, rng).low < estimate(MEAN, worse, rng).high


@pytest.mark.parametrize("values", [[1.0] * 50, [0.0] * 50, [2.5] * 50])
@pytest.mark.parametrize("clusters", [range(50), np.arange(50) // 2])
def test_no_discordant_pair_has_an_honest_width_on_both_sides(rng, values, clusters):
    same = measured(values, clusters=clusters)
    found = paired_difference(MEAN, same, same, rng)
    assert found.value == 0
    assert found.low < -0.03
    assert found.high > 0.03


def test_a_faultless_recall_gets_the_rule_of_three_of_its_positives(rng):
    actual = np.arange(100) < 40
    found = estimate(RECALL, measured(predicted=actual, actual=actual), rng)
    share = 1 - 0.025 ** (1 / 100)
    assert found.low == pytest.approx(40 / (40 + 100 * share / (1 - share)))
    assert found.value == found.high == 1


def test_models_that_agree_everywhere_may_still_differ_unseen(rng):
    actual = np.arange(100) < 40
    same = measured(predicted=actual, actual=actual)
    found = paired_difference(RECALL, same, same, rng)
    assert found.low < -0.05
    assert found.high > 0.05


def test_a_median_that_nothing_unseen_could_move_has_no_width(rng):
    found = estimate(MEDIAN, measured([2.5] * 50), rng)
    assert (found.low, found.high) == (2.5, 2.5)
    assert estimate(MEDIAN, measured([2.5] * 5), rng).low == 0


@pytest.mark.parametrize("formula", ["y", "y.median", "1 * y", "y.below(0.7)"])
def test_clusters_widen_every_interval(rng, formula):
    statistic, scenes = compile_formula(formula, None), np.repeat(np.arange(30), 4)
    values = rng.exponential(size=30)[scenes] + 0.01 * rng.random(120)
    for scores in (values, (values > 0.7).astype(float)):
        alone = estimate(statistic, measured(scores), rng)
        together = estimate(statistic, measured(scores, clusters=scenes), rng)
        assert together.value == alone.value
        least = 0.99 if formula == "y.median" else 1.3  # a median of zeros and ones hardly can
        assert together.high - together.low > least * (alone.high - alone.low)


def test_copies_of_clustered_rows_bring_no_information(rng):
    values = rng.exponential(size=40)
    once = estimate(MEAN, measured(values), np.random.default_rng(1))
    thrice = measured(np.tile(values, 3), clusters=np.tile(np.arange(40), 3))
    found = estimate(MEAN, thrice, np.random.default_rng(1))
    assert (found.low, found.high) == pytest.approx((once.low, once.high))


def test_fewer_than_five_samples_or_clusters_give_no_number(rng):
    four, scenes = (
        measured([1, 0, 1, 1]),
        measured([1, 0, 1, 1, 0, 1, 1, 0], clusters=[0, 1, 2, 3] * 2),
    )
    for one in (four, scenes):
        assert estimate(MEAN, one, rng) is None
        assert paired_difference(MEDIAN, one, one, rng) is None


def test_data_of_one_class_gives_no_recall(rng):
    none = measured(predicted=np.ones(30), actual=np.zeros(30))
    assert estimate(RECALL, none, rng) is None
    assert paired_difference(RECALL, none, none, rng) is None


def test_a_recall_that_many_resamples_do_not_have_is_not_given(rng):
    two, many = np.arange(60) < 2, np.arange(60) < 12
    assert estimate(RECALL, measured(predicted=np.ones(60), actual=two), rng) is None
    assert estimate(RECALL, measured(predicted=np.ones(60), actual=many), rng) is not None


@pytest.mark.parametrize("clusters", [np.arange(120), np.repeat(np.arange(30), 4)])
def test_a_rate_as_a_share_of_a_score_is_about_the_rate_itself(rng, clusters):
    values = rng.exponential(size=120)
    rate = measured((values < 0.7).astype(float), clusters=clusters)
    share = measured(values, clusters=clusters)
    found = estimate(compile_formula("y.below(0.7)", None), share, rng)
    exact = estimate(MEAN, rate, rng)
    assert (found.low, found.high) == pytest.approx((exact.low, exact.high), abs=0.03)


@dataclass(frozen=True)
class Widest:
    """A task's own formula, which does not say what it looks at."""

    text: str = "own:widest"
    columns: frozenset = frozenset()
    mean_of: str | None = None
    quantiles: tuple | None = None
    range: tuple | None = None
    needs_answers: bool = False
    has_functions: bool = True
    level_of: str | None = None

    def __call__(self, scores, weights):
        return np.array([np.max(scores["y"][row > 0]) for row in weights])


def test_a_statistic_that_names_no_columns_sees_all(rng):
    found = estimate(Widest(), measured(rng.random(40)), rng)
    assert found.low < found.value <= found.high


@pytest.mark.parametrize("formula", ["p.f1(a)", "p.recall(a)"])
def test_a_share_and_its_difference_end_where_shares_do(rng, formula):
    share = compile_formula(formula, None)
    right = np.repeat([1.0, 0.0], [18, 22])
    nearly, poor = right.copy(), 1 - right
    nearly[0], poor[:2] = 0.0, 1.0
    better = measured(p=nearly, a=right)
    assert estimate(share, better, rng).high == 1.0
    found = paired_difference(share, better, measured(p=poor, a=right), rng)
    assert -1.0 <= found.low <= found.value <= found.high <= 1.0


@pytest.mark.parametrize("formula", ["y.mean", "y.p90"])
def test_errors_have_no_negative_bound_and_signed_scores_do(rng, formula):
    statistic = compile_formula(formula, None)
    errors = np.r_[np.full(18, 0.01), 5.0, 40.0]
    assert estimate(statistic, measured(errors), rng).low == 0.0
    assert estimate(statistic, measured(errors - 0.02), rng).low < 0.0


def test_the_same_seed_gives_the_same_bytes():
    values = np.random.default_rng(0).lognormal(size=80)
    for statistic in (MEAN, MEDIAN):
        first, second = (
            estimate(statistic, measured(values), np.random.default_rng(4)) for _ in range(2)
        )
        assert first == second


def test_permuted_ids_are_refused(rng):
    right = measured([1, 0, 1, 1, 0])
    ids = ("s1", "s0", *right.ids[2:])
    wrong = Measured(ids=ids, scores=right.scores, weights=right.weights, clusters=right.clusters)
    with pytest.raises(ValueError, match="row 0 is sample s0 for the candidate and s1"):
        paired_difference(MEAN, right, wrong, rng)


def test_unequal_lengths_and_weights_are_refused(rng):
    six, five = measured([1, 0, 1, 1, 0, 1]), measured([1, 0, 1, 1, 0])
    with pytest.raises(ValueError, match="6 scores of the candidate and 5"):
        paired_difference(MEAN, six, five, rng)
    with pytest.raises(ValueError, match="weights are not the champion's"):
        paired_difference(MEAN, five, measured([1, 0, 1, 1, 0], [2, 1, 1, 1, 1]), rng)


def test_a_score_that_was_not_measured_is_named(rng):
    with pytest.raises(ValueError, match="needs the score y; measured are: actual, predicted"):
        estimate(MEAN, measured(predicted=np.ones(9), actual=np.ones(9)), rng)


@pytest.mark.parametrize(
    ("values", "weights", "message"),
    [
        ([1, np.nan], [1, 1], "score y of sample s1 is nan"),
        ([1, np.inf], [1, 1], "score y of sample s1 is inf"),
        ([1, 1], [1, 0], "weight of sample s1 is 0"),
        ([1, 1], [np.nan, 1], "weight of sample s0 is nan"),
        ([1, 1], [1], "2 ids and 1 weights"),
    ],
)
def test_numbers_that_are_none_are_refused_by_sample(values, weights, message):
    with pytest.raises(ValueError, match=message):
        measured(values, weights)


def test_a_sample_twice_is_refused():
    with pytest.raises(ValueError, match="sample a is there twice"):
        Measured(ids=("a", "b", "a"), scores={}, weights=np.ones(3), clusters=np.arange(3))


def test_a_part_of_the_samples_keeps_all_that_belongs_to_them():
    part = measured([1, 2, 3], [4, 5, 6], [7, 7, 8]).where(np.array([False, True, True]))
    assert part.ids == ("s1", "s2")
    assert part.scores["y"].tolist() == [2, 3]
    assert (part.weights.tolist(), part.clusters.tolist()) == ([5, 6], [7, 8])
