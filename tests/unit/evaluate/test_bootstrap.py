"""Our BCa against SciPy's and against plain loops; what is merged changes no distribution."""

import math

import numpy as np
import pytest
from scipy import stats

from flywheel.evaluate.bootstrap import Contrast, bootstrap, bootstrap_mean, make_pool
from flywheel.metrics.compiled import compile_formula


def contrast(formula, *tables, weights=None, clusters=None):
    size = len(next(iter(tables[0].values())))
    return Contrast(
        statistic=compile_formula(formula, None),
        tables=tables,
        weights=np.ones(size) if weights is None else weights,
        clusters=np.arange(size) if clusters is None else clusters,
    )


@pytest.fixture
def many(monkeypatch):
    """8,000 resamples in place of 4,000."""
    monkeypatch.setattr("flywheel.evaluate.bootstrap._RESAMPLES", 8000)


def scipys(columns, statistic, tail=0.025):
    found = stats.bootstrap(
        columns, statistic, paired=True, n_resamples=8000, confidence_level=1 - 2 * tail,
        method="BCa", batch=500, rng=np.random.default_rng(3),
    )  # fmt: skip
    return tuple(found.confidence_interval), found.standard_error


def f1(predicted, actual, axis):
    return 2 * (predicted * actual).sum(axis=axis) / (predicted + actual).sum(axis=axis)


def agree(ours, theirs, error):
    """Within what 8,000 resamples leave open, a few percent of a standard error."""
    assert (ours.low, ours.high) == pytest.approx(theirs, abs=0.12 * error)
    assert ours.error == pytest.approx(error, rel=0.05)


@pytest.mark.usefixtures("many")
def test_bca_of_a_skewed_mean_is_scipys(rng):
    values = rng.exponential(size=40)
    theirs, error = scipys((values,), np.mean)
    agree(bootstrap(contrast("y", {"y": values}), 0.025, rng), theirs, error)


@pytest.mark.usefixtures("many")
def test_bca_of_a_difference_of_medians_is_scipys(rng):
    first = rng.lognormal(size=61)
    second = first + rng.normal(0.1, 0.3, 61)
    theirs, error = scipys(
        (first, second), lambda a, b, axis: np.median(a, axis=axis) - np.median(b, axis=axis)
    )
    found = bootstrap(contrast("y.median", {"y": first}, {"y": second}), 0.025, rng)
    agree(found, theirs, error)


@pytest.mark.usefixtures("many")
def test_bca_of_a_difference_of_f1_is_scipys(rng):
    actual = (rng.random(120) < 0.4) * 1.0
    models = [np.abs(actual - (rng.random(120) < wrong)) for wrong in (0.1, 0.25)]
    theirs, error = scipys((*models, actual), lambda a, b, t, axis: f1(a, t, axis) - f1(b, t, axis))
    tables = [{"p": model, "t": actual} for model in models]
    agree(bootstrap(contrast("p.f1(t)", *tables), 0.025, rng), theirs, error)


@pytest.mark.parametrize("formula", ["y.median", "y.p90", "y.p90 / y.median", "1 * y"])
@pytest.mark.parametrize("grouped", [False, True])
def test_resamples_are_those_of_a_plain_loop(rng, formula, grouped):
    values, weights = rng.lognormal(size=150), rng.choice([1.0, 3.0], 150)
    clusters = np.arange(150) // (4 if grouped else 1)
    one = contrast(formula, {"y": values}, weights=weights, clusters=clusters)
    units = np.split(np.arange(150), np.unique(clusters, return_index=True)[1][1:])
    slow = []
    for _ in range(1500):
        rows = np.concatenate([units[i] for i in rng.choice(len(units), len(units))])
        slow.append(one.statistic({"y": values[rows]}, weights[None, rows])[0])
    assert bootstrap(one, 0.025, rng).error == pytest.approx(np.std(slow), rel=0.12)


@pytest.mark.parametrize("grouped", [False, True])
def test_windows_around_quantiles_change_nothing(rng, grouped, monkeypatch):
    clusters = np.arange(2000) // (3 if grouped else 1)
    tables = [{"y": rng.lognormal(size=2000).round(3)} for _ in range(2)]
    pair = contrast("y.median + y.p90", *tables, clusters=clusters)
    fast = bootstrap(pair, 0.025, rng)
    monkeypatch.setattr("flywheel.evaluate.bootstrap._windows", lambda *_: ())
    slow = bootstrap(pair, 0.025, rng)
    assert fast.error == pytest.approx(slow.error, rel=0.1)
    assert (fast.low, fast.high) == pytest.approx((slow.low, slow.high), abs=0.25 * slow.error)


def test_windows_merge_what_is_far(rng, monkeypatch):
    pools, merge = [], "flywheel.evaluate.bootstrap.make_pool"
    monkeypatch.setattr(merge, lambda *given: pools.append(make_pool(*given)) or pools[-1])
    bootstrap(contrast("y.median", {"y": rng.random(40_000)}), 0.025, rng)
    assert pools[0].spread.shape[1] < 4000
    assert pools[0].copies.sum() == 40_000


def test_a_quantile_that_leaves_its_window_is_drawn_anew_without(rng, monkeypatch):
    one = contrast("y.median", {"y": rng.random(500)})
    slow = bootstrap(one, 0.025, np.random.default_rng(1)).error
    monkeypatch.setattr("flywheel.evaluate.bootstrap._DEVIATIONS", 0.3)
    assert bootstrap(one, 0.025, rng).error == pytest.approx(slow, rel=0.08)


def test_few_undefined_resamples_are_dropped_and_many_forbid_a_number(rng):
    actual = np.arange(50)
    for positives, is_given in ((2, False), (5, True)):
        scores = {"p": (rng.random(50) < 0.7) * 1.0, "t": (actual < positives) * 1.0}
        found = bootstrap(contrast("p.recall(t)", scores), 0.025, rng)
        assert (found is not None) == is_given


def test_bounds_are_nan_where_bca_is_not_defined(rng):
    top = contrast("y.quantile(0.999)", {"y": np.append(np.zeros(200), 1.0)})
    found = bootstrap(top, 0.025, rng)
    assert math.isnan(found.low) or found.low <= top.value
    flat = bootstrap(contrast("y.median", {"y": np.ones(30)}), 0.025, rng)
    assert (flat.low, flat.high, flat.error) == (1, 1, 0)


def test_the_mean_holds_bca_and_more(rng):
    values, weights = rng.lognormal(size=30), rng.lognormal(0, 0.5, 30)
    bca = bootstrap(contrast("y", {"y": values}, weights=weights), 0.025, rng)
    low, high = bootstrap_mean(values, weights, 0.025, rng)
    assert low <= bca.low + 0.1 * bca.error
    assert high > bca.high + 0.1 * bca.error


def test_the_mean_of_scores_at_the_limits_of_a_float_has_finite_bounds(rng):
    for least in (1e-300, 1e150):
        bounds = bootstrap_mean(np.array([0.0, 0.0, 0.0, 0.0, least]), np.ones(5), 0.0001, rng)
        assert np.isfinite(bounds).all()


def test_the_mean_draws_pairs_of_score_and_weight(rng):
    # A constant score under any weights has a constant mean; only broken pairs would vary.
    values = np.array([1.0, 2.0] * 20)
    weights = np.where(values == 1.0, 1e-9, 1.0)
    assert bootstrap_mean(values, weights, 0.025, rng) == pytest.approx((2.0, 2.0), abs=1e-6)
