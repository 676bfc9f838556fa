import math

import numpy as np
import pytest
from scipy import stats

from flywheel.errors import SettingsError
from flywheel.evaluate.abstain import abstention, failed
from flywheel.metrics.compiled import compile_formula
from flywheel.settings.judging import Abstain

CORRECT = compile_formula("correct", None)
ERROR = compile_formula("error_cm", None)
TABLE = {
    "correct": np.array([1.0, 0.0, 0.5]),
    "error_cm": np.array([0.1, 0.9, 0.5]),
    "confidence": np.array([0.9, 0.2, 0.5]),
}
ALLOWED = Abstain(max_failure_rate=0.1)


def judge(confidences, failures, settings=ALLOWED, weights=None, clusters=None):
    number = len(confidences)
    return abstention(
        np.asarray(confidences, dtype=float),
        np.asarray(failures, dtype=bool),
        np.ones(number) if weights is None else weights,
        np.arange(number) if clusters is None else clusters,
        settings,
    )


def test_by_default_a_share_below_1_is_a_failure():
    assert failed(TABLE, Abstain(), CORRECT).tolist() == [False, True, True]


def test_where_lower_is_better_a_share_above_0_is_a_failure():
    wrong = {"wrong": np.array([1.0, 0.0, 0.5])}
    found = failed(wrong, Abstain(), compile_formula("wrong", None), higher_is_better=False)
    assert found.tolist() == [True, False, True]


@pytest.mark.parametrize(
    ("condition", "found"),
    [
        ("error_cm > 0.5", [False, True, False]),
        ("error_cm >= 0.5", [False, True, True]),
        ("correct<=0.0", [False, True, False]),
        ("correct < 1e0", [False, True, True]),
    ],
)
def test_a_condition_says_what_a_failure_is(condition, found):
    assert failed(TABLE, Abstain(failure=condition), ERROR).tolist() == found


@pytest.mark.parametrize("formula", ["error_cm", "correct.median", "missing"])
def test_what_is_not_the_mean_of_a_share_defines_no_failure(formula):
    assert failed(TABLE, Abstain(), compile_formula(formula, None)) is None


def test_a_failure_rate_without_a_failure_is_one_clear_error():
    with pytest.raises(SettingsError, match=r"= 0\.1.*'error_cm'.*Write abstain\.failure = .*corr"):
        failed(TABLE, ALLOWED, ERROR)


def test_an_unknown_score_suggests_the_nearest():
    with pytest.raises(SettingsError, match="did you mean 'correct'"):
        failed(TABLE, Abstain(failure="corect < 1"), CORRECT)


def test_no_samples_give_no_curve_and_no_threshold():
    nothing = judge([], [])
    assert (nothing.curve, nothing.threshold) == ((), None)


def test_without_a_wanted_failure_rate_there_is_a_curve_and_no_threshold():
    found = judge([0.9] * 99, [False] * 99, Abstain())
    assert found.threshold is None
    assert [point.coverage for point in found.curve] == [1.0]


def test_the_curve_falls_in_threshold_and_grows_in_coverage():
    rng = np.random.default_rng(0)
    curve = judge(rng.random(500), rng.random(500) < 0.1).curve
    thresholds, coverages = zip(*((p.threshold, p.coverage) for p in curve), strict=True)
    assert 10 < len(curve) <= 50
    assert list(thresholds) == sorted(set(thresholds), reverse=True)
    assert list(coverages) == sorted(set(coverages))
    assert curve[-1].coverage == 1.0


def test_bounds_of_equal_weights_are_clopper_and_pearson_s():
    failures = np.arange(80) < 3
    (point,) = judge([0.99] * 80, failures).curve
    exact = stats.binomtest(3, 80, alternative="less").proportion_ci(0.95, "exact").high
    assert point.failure_rate == pytest.approx(3 / 80)
    assert point.failure_bound == pytest.approx(exact)


def test_without_a_failure_the_bound_is_the_rule_of_three():
    (point,) = judge([0.99] * 80, [False] * 80).curve
    assert point.failure_bound == pytest.approx(1 - 0.05 ** (1 / 80))


def test_where_all_fail_the_bound_is_1():
    (point,) = judge([0.99] * 8, [True] * 8).curve
    assert (point.failure_rate, point.failure_bound) == (1.0, 1.0)


def test_rates_are_weighted_and_uneven_weights_widen_the_bound():
    weights = np.r_[np.full(40, 1.0), np.full(40, 9.0)]
    (point,) = judge([0.99] * 80, np.arange(80) < 4, weights=weights).curve
    assert point.failure_rate == pytest.approx(4 / 400)
    size = weights.sum() ** 2 / (weights**2).sum()
    expected = stats.beta.isf(0.05, 0.01 * size + 1, 0.99 * size)
    assert point.failure_bound == pytest.approx(expected)


def test_few_scenes_bound_a_failure_rate_less_than_many_samples():
    scenes = np.repeat(np.arange(20), 10)
    failures = scenes == 3
    (alone,) = judge([0.99] * 200, failures).curve
    (grouped,) = judge([0.99] * 200, failures, clusters=scenes).curve
    (spotless,) = judge([0.99] * 200, failures & False, clusters=scenes).curve
    assert grouped.failure_bound > alone.failure_bound
    assert spotless.failure_bound == pytest.approx(1 - 0.05 ** (1 / 20))


def test_the_threshold_is_the_lowest_before_the_first_that_does_not_pass():
    """Below 0.6 half of the answers fail; what is surer never does."""
    confidences = np.r_[np.full(60, 0.95), np.full(60, 0.7), np.full(60, 0.3)]
    found = judge(confidences, np.r_[np.zeros(120), np.ones(30), np.zeros(30)])
    assert 0.3 < found.threshold <= 0.7
    assert found.threshold == min(p.threshold for p in found.curve if p.failure_bound <= 0.1)


def test_a_later_pass_behind_a_failed_test_does_not_count():
    confidences = np.r_[np.full(60, 0.95), np.full(2_000, 0.3)]
    found = judge(confidences, np.r_[np.ones(20), np.zeros(2_040)])
    assert found.curve[-1].failure_bound < 0.1
    assert found.threshold is None


def test_too_few_sure_answers_are_passed_over_and_do_not_end_the_sequence():
    confidences = np.r_[np.full(5, 0.999), np.full(200, 0.8)]
    assert judge(confidences, np.zeros(205)).threshold == 0.0


def test_a_threshold_of_0_never_defers():
    assert judge([0.0] * 100, [False] * 100).threshold == 0.0


@pytest.fixture(scope="module")
def chosen():
    """(guaranteed, plug-in) thresholds of 200 test sets of 400 samples from one production."""
    rng = np.random.default_rng(5)
    found = []
    for _ in range(200):
        confidences, failures = production(400, rng)
        result = judge(confidences, failures)
        plug_in = [p.threshold for p in result.curve if p.failure_rate <= 0.1]
        found.append((result.threshold, min(plug_in)))
    return found


def production(number, rng):
    """Failure rates fall with the confidence, from 0.8 to 0.01; 16 % in all, 10 % above 0.75."""
    confidences = rng.beta(4, 1, number)
    return confidences, rng.random(number) < np.maximum(0.8 * (1 - confidences), 0.01)


@pytest.fixture(scope="module")
def breaks():
    """Threshold -> whether production fails more often above it than is allowed."""
    confidences, failures = production(500_000, np.random.default_rng(6))
    order = np.argsort(confidences)
    ordered = confidences[order]
    above = failures[order][::-1].cumsum()[::-1] / np.arange(len(order), 0, -1)

    def broken(threshold):
        return above[np.searchsorted(ordered, threshold)] > 0.1

    return broken


def test_the_guarantee_holds_at_least_as_often_as_stated(chosen, breaks):
    """Of 200 lives at most 5 % may break it; the bound is the 99.9 % quantile of the binomial."""
    broken = sum(breaks(threshold) for threshold, _ in chosen if threshold is not None)
    assert broken <= stats.binom.isf(0.001, 200, 0.05)
    assert sum(threshold is not None for threshold, _ in chosen) > 130  # and it is of use


def test_the_plug_in_threshold_breaks_it_time_and_again(chosen, breaks):
    assert sum(breaks(threshold) for _, threshold in chosen) > 0.3 * len(chosen)


def test_the_guarantee_holds_on_uneven_inclusion_probabilities(breaks):
    """Poisson sampling that prefers the unsure, weights 1 / pi, as production is labeled."""
    rng, broken, used = np.random.default_rng(7), 0, 0
    for _ in range(100):
        confidences, failures = production(6_000, rng)
        unsure = 1 - confidences
        chances = np.minimum(600 * (0.3 / 6_000 + 0.7 * unsure / unsure.sum()), 1)
        drawn = rng.random(6_000) < chances
        found = judge(confidences[drawn], failures[drawn], weights=1 / chances[drawn])
        used += found.threshold is not None
        broken += found.threshold is not None and bool(breaks(found.threshold))
    assert used > 40
    assert broken <= stats.binom.isf(0.001, 100, 0.05)


def test_the_same_samples_give_the_same_answer_in_any_order():
    rng = np.random.default_rng(1)
    confidences, failures = production(300, rng)
    order = rng.permutation(300)
    one, other = judge(confidences, failures), judge(confidences[order], failures[order])
    assert one.threshold == other.threshold
    assert all(
        math.isclose(a.failure_bound, b.failure_bound)
        for a, b in zip(one.curve, other.curve, strict=True)
    )
