import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score, fbeta_score, precision_score, recall_score

from flywheel.metrics.scores import (
    average_precision,
    f_beta,
    mean_average_precision,
    weighted_mean,
    weighted_quantile,
)

FEW = settings(max_examples=40, deadline=None)
SEEDS = st.integers(0, 2**32 - 1)
LEVELS = st.sampled_from([0.05, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95, 1 / 3])


def draw(seed, rows=6):
    """Scores with ties, two classes, three classes, and whole weights with zeros."""
    rng = np.random.default_rng(seed)
    number = int(rng.integers(1, 30))
    return (
        rng.integers(0, 8, number) / 8,
        rng.integers(0, 2, (2, number)).astype(bool),
        rng.integers(0, 3, (2, number)).astype(float),
        rng.integers(0, 4, (rows, number)).astype(float),
    )


def by_row(function, weights):
    """One row of weights at a time, rows of no weight being undefined."""
    return np.concatenate([function(row[None]) for row in weights])


@FEW
@given(SEEDS)
def test_weights_repeat_rows_in_a_mean(seed):
    values, _, _, weights = draw(seed)
    for row, mean in zip(weights.astype(int), weighted_mean(values, weights), strict=True):
        repeated = np.repeat(values, row)
        assert mean == pytest.approx(repeated.mean()) if repeated.size else np.isnan(mean)


@FEW
@given(SEEDS, LEVELS)
def test_weights_repeat_rows_in_a_quantile(seed, level):
    values, _, _, weights = draw(seed)
    found = weighted_quantile(values, level, weights)
    for row, quantile in zip(weights.astype(int), found, strict=True):
        repeated = np.repeat(values, row)
        if not repeated.size:
            assert np.isnan(quantile)
        else:
            assert quantile == np.quantile(repeated, level, method="averaged_inverted_cdf")


@FEW
@given(SEEDS, LEVELS, st.sampled_from([0.1, 1 / 3, 7.3]))
def test_a_quantile_knows_no_unit_of_weight(seed, level, unit):
    values, _, _, weights = draw(seed)
    np.testing.assert_array_equal(
        weighted_quantile(values, level, weights),
        weighted_quantile(values, level, weights * unit),
    )


@pytest.mark.parametrize("number", [1, 2, 3, 10, 999, 1000, 30_000])
def test_an_unweighted_median_is_numpys(number):
    values = np.random.default_rng(number).normal(size=number)
    for weight in (1.0, 1 / 0.3):
        median = weighted_quantile(values, 0.5, np.full((1, number), weight))
        assert median == [np.median(values)]


def test_a_quantile_reached_exactly_is_halfway_to_the_next_that_has_weight():
    values = np.array([3.0, 1.0, 2.0, 9.0])
    weights = np.array([[2.0, 2.0, 0.0, 0.0], [2.0, 2.1, 0.0, 0.0], [1.0, 1.0, 0.0, 2.0]])
    assert weighted_quantile(values, 0.5, weights).tolist() == [2.0, 1.0, 6.0]


@settings(max_examples=15, deadline=None)
@given(SEEDS, st.sampled_from([0.5, 1.0, 2.0]))
def test_scikit_learn_agrees_on_precision_recall_and_f(seed, beta):
    _, (predicted, actual), _, weights = draw(seed, rows=2)
    weights[:, 0] += 1  # scikit-learn refuses rows without any weight
    oracles = {0.0: precision_score, np.inf: recall_score, beta: fbeta_score}
    for of, oracle in oracles.items():
        more = {"beta": beta} if oracle is fbeta_score else {}
        for row, found in zip(weights, f_beta(predicted, actual, weights, of), strict=True):
            expected = oracle(actual, predicted, sample_weight=row, zero_division=np.nan, **more)
            assert found == pytest.approx(expected, nan_ok=True)


@FEW
@given(SEEDS)
def test_scikit_learn_agrees_on_average_precision(seed):
    ranking, (actual, _), _, weights = draw(seed, rows=2)
    for row, found in zip(weights, average_precision(ranking, actual, weights), strict=True):
        kept = row > 0
        if not (actual & kept).any():
            assert np.isnan(found)
            continue
        expected = average_precision_score(actual[kept], ranking[kept], sample_weight=row[kept])
        assert found == pytest.approx(expected)


def slow_mean_average_precision(predicted, actual, confidence, row):
    """By the definition: whole weights, one class and one distinct confidence after the other."""
    areas = []
    for one in set(actual[row > 0]):
        positives, area, recall = row[actual == one].sum(), 0.0, 0.0
        for bound in sorted(set(confidence), reverse=True):
            taken = (predicted == one) & (confidence >= bound)
            hits, seen = row[taken & (actual == one)].sum(), row[taken].sum()
            if seen:
                area += (hits / positives - recall) * hits / seen
                recall = hits / positives
        areas.append(area)
    return np.mean(areas) if areas else np.nan


@FEW
@given(SEEDS)
def test_mean_average_precision_is_its_definition(seed):
    confidence, _, (predicted, actual), weights = draw(seed)
    found = mean_average_precision(predicted, actual, confidence, weights)
    for row, value in zip(weights, found, strict=True):
        expected = slow_mean_average_precision(predicted, actual, confidence, row)
        assert value == pytest.approx(expected, nan_ok=True)


def test_mean_average_precision_of_a_known_case():
    """Class 1: hit, miss, one never found: 1/2. Class 2: miss, then hit: 1/2 of 1/1."""
    predicted, actual = np.array([1.0, 1, 2, 2, 3]), np.array([1.0, 2, 1, 2, 3])
    confidence, weights = np.array([0.9, 0.8, 0.7, 0.6, 0.1]), np.ones((1, 5))
    found = mean_average_precision(predicted, actual, confidence, weights)
    assert found == pytest.approx([(1 / 2 + 1 / 4 + 1) / 3])


@FEW
@given(SEEDS)
def test_all_rows_at_once_are_row_by_row(seed):
    ranking, (predicted, actual), (one, other), weights = draw(seed)
    functions = [
        lambda w: weighted_mean(ranking, w),
        lambda w: weighted_quantile(ranking, 0.5, w),
        lambda w: f_beta(predicted, actual, w, 2.0),
        lambda w: average_precision(ranking, actual, w),
        lambda w: mean_average_precision(one, other, ranking, w),
    ]
    for function in functions:
        np.testing.assert_allclose(function(weights), by_row(function, weights), rtol=1e-12)


@pytest.mark.parametrize("number", [0, 3])
def test_without_any_weight_nothing_is_defined(number):
    values, mask, weights = np.arange(float(number)), np.ones(number, bool), np.zeros((2, number))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = [
            weighted_mean(values, weights),
            weighted_quantile(values, 0.5, weights),
            f_beta(mask, mask, weights, 1.0),
            average_precision(values, mask, weights),
            mean_average_precision(values, values, values, weights),
        ]
    assert np.isnan(found).all()
    assert np.shape(found) == (5, 2)


@pytest.mark.parametrize(
    ("predicted", "actual", "precision", "recall", "f1"),
    [
        ([0, 0], [0, 1], np.nan, 0.0, 0.0),
        ([0, 1], [0, 0], 0.0, np.nan, 0.0),
        ([0, 0], [0, 0], np.nan, np.nan, np.nan),
    ],
)
def test_what_has_no_denominator_is_undefined(predicted, actual, precision, recall, f1):
    predicted, actual = np.array(predicted, bool), np.array(actual, bool)
    found = [f_beta(predicted, actual, np.ones((1, 2)), beta)[0] for beta in (0.0, np.inf, 1.0)]
    np.testing.assert_array_equal(found, [precision, recall, f1])
