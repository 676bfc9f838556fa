"""Draws follow the law of N draws with replacement, whatever was merged to be fast."""

import numpy as np
import pytest
from scipy import stats

from flywheel.evaluate import bootstrap as module
from flywheel.evaluate.bootstrap import leave_out, make_pool, resample


def same(weights):
    return weights


@pytest.fixture
def table(rng):
    """Two columns with ties, some of them common and some rare."""
    return {"a": np.minimum(rng.geometric(0.05, 200), 30) * 1.0, "b": rng.integers(0, 2, 200) * 1.0}


def slow(table, weights, clusters, number, rng):
    """Sums of w a and of w b over rows drawn one by one, or cluster by cluster."""
    units = [np.flatnonzero(clusters == one) for one in np.unique(clusters)]
    for _ in range(number):
        rows = np.concatenate([units[i] for i in rng.integers(0, len(units), len(units))])
        yield [weights[rows].sum(), *(weights[rows] @ table[name][rows] for name in "ab")]


@pytest.mark.parametrize("uneven", [False, True])
@pytest.mark.parametrize("clusters", [np.arange(200), np.arange(200) // 3])
def test_resamples_have_the_moments_of_draws_one_by_one(rng, table, uneven, clusters):
    weights = rng.choice([1.0, 2.5], 200) if uneven else np.ones(200)
    pool = make_pool([table], weights, clusters)
    columns = np.stack(
        [np.ones(len(pool.tables[0]["a"])), pool.tables[0]["a"], pool.tables[0]["b"]]
    )
    fast = resample(pool, lambda drawn: drawn @ columns.T, 3000, rng)
    plain = np.array(list(slow(table, weights, clusters, 3000, rng)))
    error = plain.std(axis=0) * np.sqrt(2 / 3000)
    assert (np.abs(fast.mean(axis=0) - plain.mean(axis=0)) <= 4 * error + 1e-9).all()
    assert fast.std(axis=0) == pytest.approx(plain.std(axis=0), rel=0.1, abs=1e-9)
    spread = plain.std(axis=0) > 0
    correlated = [np.corrcoef(draws[:, spread].T) for draws in (fast, plain)]
    assert correlated[0] == pytest.approx(correlated[1], abs=0.1)


def test_counts_of_cells_follow_the_multinomial_law(rng):
    scores = {"a": np.repeat([0.0, 1.0, 2.0], [70, 27, 3])}  # drawn in both ways
    drawn = resample(make_pool([scores], np.ones(100), np.arange(100)), same, 4000, rng)
    for cell, size in enumerate([70, 27, 3]):
        found = np.bincount(drawn[:, cell].astype(int), minlength=101)
        law = 4000 * stats.binom.pmf(np.arange(101), 100, size / 100)
        kept = law > 5
        assert (
            stats.chisquare(
                np.append(found[kept], found[~kept].sum()), np.append(law[kept], law[~kept].sum())
            ).pvalue
            > 1e-4
        )


def test_every_resample_draws_as_many_as_there_are(rng, table):
    drawn = resample(make_pool([table], np.ones(200), np.arange(200)), same, 50, rng)
    assert (drawn.sum(axis=1) == 200).all()


def test_cells_of_two_binary_models_are_eight_at_most(rng):
    scores = [{"p": rng.integers(0, 2, 5000) * 1.0, "t": np.ones(5000)} for _ in range(2)]
    pool = make_pool(scores, np.ones(5000), np.arange(5000))
    assert (len(pool.tables[0]["p"]), pool.copies.sum()) == (4, 5000)
    assert pool.weights.sum() == 5000


@pytest.mark.parametrize("clusters", [np.arange(200), np.arange(200) // 3])
def test_leaving_out_is_its_definition(rng, table, clusters):
    weights = rng.choice([1.0, 2.5], 200)
    pool = make_pool([table], weights, clusters)
    left, times = leave_out(pool, lambda rest: rest @ pool.tables[0]["a"], rng)
    slow = [(weights * table["a"])[clusters != one].sum() for one in np.unique(clusters)]
    assert np.sort(np.repeat(left, times)) == pytest.approx(np.sort(slow))


def test_what_is_left_out_is_absent_to_the_last_digit(rng):
    weights = np.array([0.1, 0.2, 0.3, 1e-3, 0.7])
    pool = make_pool([{"a": np.zeros(5)}], weights, np.zeros(5, dtype=int))
    left, _ = leave_out(pool, same, rng)
    assert (left == 0).all()


def test_many_units_are_left_out_in_groups_with_the_same_skewness(rng):
    values = rng.exponential(size=4000)
    pool = make_pool([{"a": values}], np.ones(4000), np.arange(4000))
    left, times = leave_out(pool, lambda rest: rest @ pool.tables[0]["a"] / rest.sum(axis=1), rng)
    assert len(left) == 1000
    exact = -(values - values.mean()) / 3999
    assert acceleration(-left, times) == pytest.approx(acceleration(exact, np.ones(4000)), abs=3e-3)


def acceleration(values, times):
    centred = values - values.mean()
    return abs((times @ centred**3) / 6 / (times @ centred**2) ** 1.5)


def test_memory_is_bounded_by_the_chunk(rng, monkeypatch):
    monkeypatch.setattr(module, "_CHUNK_ELEMENTS", 1000)
    sizes = []

    def watch(weights):
        sizes.append(weights.size)
        return weights[:, 0]

    pool = make_pool([{"a": rng.random(100)}], np.ones(100), np.arange(100))
    assert len(resample(pool, watch, 105, rng)) == 105
    assert len(leave_out(pool, watch, rng)[0]) == 100
    assert max(sizes) <= 1000
