from dataclasses import replace
from datetime import UTC, datetime

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from scipy.stats import binomtest

from flywheel.decide.decomposition import decompose, reference, tightest_bound
from flywheel.records import Entry, Estimate, Report, Reuse

_PARTS = ("train", "start", "seen", "fresh")
_MISSING = st.lists(st.sampled_from(["bound", *_PARTS]), unique=True)
_VALUES = st.lists(st.floats(0, 1), min_size=5, max_size=5)


def _entry(name, value, kind="", half=0.01, *, is_fair=True):
    number = None
    if value is not None:
        number = Estimate(value=value, low=value - half, high=value + half, num_samples=100)
    return Entry(name=name, kind=kind or name, metric=number, is_fair=is_fair)


def _report(bound, *values, up=False, extra=()):
    """A report with a human bound and the judged model's value on each part; None: not measured."""
    return Report(
        id="r",
        night=3,
        metric="correct",
        higher_is_better=up,
        metric_id="m",
        metric_settings={},
        candidate_digest="a",
        champion_digest="b",
        dataset_id="d",
        test_set_digest="t",
        challenge=None,
        entries=(_entry("deep expert", bound, "human"), *extra),
        start_entries=(),
        parts=tuple(_entry(*one) for one in zip(_PARTS, values, strict=False)),
        difference=None,
        slices=(),
        watched=(),
        fresh=None,
        guarded=None,
        reuse=Reuse(num_test=9, num_sealed=0, mean_uses=1, num_challenges=0, most_challenges=9),
        production=None,
        abstention=None,
        latency_p95_ms=None,
        seed=0,
        scores_digest="s",
        created_at=datetime(2030, 1, 1, tzinfo=UTC),
    )


def _values(terms):
    return {term.name: None if term.estimate is None else term.estimate.value for term in terms}


def test_the_five_terms_of_a_known_case():
    terms = decompose(_report(0.05, 0.15, 0.20, 0.30, 0.32))
    assert _values(terms) == pytest.approx(
        {
            "irreducible error": 0.05,
            "avoidable bias": 0.10,
            "variance": 0.05,
            "distribution shift": 0.10,
            "test-set overfit": 0.02,
        }
    )
    assert terms[1].meaning == "from deep expert (human) to the training data"


@given(values=_VALUES, up=st.booleans(), missing=_MISSING)
def test_the_terms_add_up_to_what_the_last_level_lacks(values, up, missing):
    levels = dict(zip(("bound", *_PARTS), values, strict=True))
    known = {name: None if name in missing else value for name, value in levels.items()}
    last = [value for value in known.values() if value is not None]
    assume(last)
    terms = decompose(_report(*known.values(), up=up))
    total = sum(term.estimate.value for term in terms if term.estimate is not None)
    assert total == pytest.approx(1 - last[-1] if up else last[-1], abs=1e-12)


@given(values=_VALUES, missing=_MISSING)
def test_a_share_and_the_error_that_it_leaves_have_the_same_terms(values, missing):
    errors = [
        None if name in missing else value
        for name, value in zip(("bound", *_PARTS), values, strict=True)
    ]
    shares = [None if error is None else 1 - error for error in errors]
    as_errors, as_shares = (
        _values(decompose(_report(*levels, up=up)))
        for levels, up in ((errors, False), (shares, True))
    )
    assert as_shares == pytest.approx(as_errors, abs=1e-12)


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ((0.1, None, 0.2, 0.3, 0.3), {"avoidable bias and variance": 0.1}),
        ((0.1, 0.1, None, 0.3, 0.3), {"variance and distribution shift": 0.2}),
        ((0.1, 0.1, 0.2, None, 0.3), {"distribution shift and test-set overfit": 0.1}),
        ((None, 0.1, 0.2, 0.3, 0.3), {"irreducible error and avoidable bias": 0.1}),
        ((0.1, 0.1, 0.2, 0.3, None), {"test-set overfit": None}),
        ((0.1, None, None, 0.3, 0.3), {"avoidable bias and variance and distribution shift": 0.2}),
        ((0.1, None, None, None, None), {"avoidable bias": None, "distribution shift": None}),
    ],
)
def test_a_missing_level_merges_two_terms_and_a_missing_end_has_no_number(values, expected):
    found = _values(decompose(_report(*values)))
    assert {name: found[name] for name in expected} == pytest.approx(expected)


@pytest.mark.parametrize("values", [(1.4, 0.5, 0.5, 0.5, 0.5), (0.5, 0.5, 3.0, 0.5, -0.1)])
def test_without_a_known_perfect_value_the_irreducible_error_has_no_number(values):
    terms = _values(decompose(_report(*values, up=True)))
    assert terms["irreducible error"] is None
    assert sum(list(terms.values())[1:]) == pytest.approx(values[0] - values[-1])


def test_no_error_is_negative_so_one_below_zero_has_no_perfect_value():
    assert decompose(_report(-0.2, 0.1, 0.1, 0.1, 0.1))[0].estimate is None
    assert decompose(_report(7.0, 8.0, 8.0, 8.0, 8.0))[0].estimate.value == pytest.approx(7.0)


def _wilson(successes, trials):
    bounds = binomtest(successes, trials).proportion_ci(method="wilson")
    return Estimate(value=successes / trials, low=bounds.low, high=bounds.high, num_samples=trials)


def test_the_interval_of_a_term_is_newcombes_for_two_rates():
    """Newcombe 1998, method 10, 56 of 70 against 48 of 80: 0.2 (0.0524 to 0.3339)."""
    rates = {"train": _wilson(56, 70), "start": _wilson(48, 80)}
    parts = tuple(Entry(name=name, kind="", metric=rate) for name, rate in rates.items())
    variance = decompose(replace(_report(0.9, up=True), parts=parts))[2].estimate
    assert (variance.value, variance.low, variance.high) == pytest.approx(
        (0.2, 0.0524, 0.3339), abs=5e-5
    )
    assert variance.num_samples == 70


def test_the_interval_of_a_term_covers_the_true_difference_19_times_in_20():
    rng, covered = np.random.default_rng(4), 0
    for train, start in rng.normal([0.3, 0.5], 0.1, (400, 2)):
        parts = (_entry("train", train, half=0.196), _entry("start", start, half=0.196))
        term = decompose(replace(_report(0.1), parts=parts))[2].estimate
        covered += term.low <= 0.2 <= term.high
    assert covered / 400 == pytest.approx(0.95, abs=0.03)


def test_the_tightest_bound_is_the_best_fair_baseline_that_was_measured():
    entries = (
        _entry("majority", 0.3, "scripted"),
        _entry("knn", 0.8, "simple ML"),
        _entry("paper", 0.99, "published", is_fair=False),
        _entry("deep expert", None, "human"),
        _entry("broken", float("nan"), "human"),
        _entry("requirement", 0.995),
        _entry("candidate", 0.999),
    )
    assert tightest_bound(entries, higher_is_better=True).name == "knn"
    assert tightest_bound(entries, higher_is_better=False).name == "majority"
    assert tightest_bound(entries[2:], higher_is_better=True) is None


def test_of_equal_bounds_people_are_named_and_a_better_one_of_any_kind_is_tighter():
    annotators, simple = _entry("domain expert", 0.9, "human"), _entry("knn", 0.9, "simple ML")
    assert tightest_bound((simple, annotators), higher_is_better=True) is annotators
    better = _entry("tree", 0.91, "simple ML")
    assert tightest_bound((simple, annotators, better), higher_is_better=True) is better


@pytest.mark.parametrize(
    ("human", "simple", "name"),
    [(0.9, 0.5, "deep expert"), (None, 0.5, "requirement"), (None, 0.97, "knn")],
)
def test_a_requirement_stands_for_a_bound_where_only_weaker_rules_are_known(human, simple, name):
    extra = (_entry("knn", simple, "simple ML"), _entry("requirement", 0.95))
    assert reference(_report(human, up=True, extra=extra)).name == name


def test_beside_a_requirement_the_first_error_is_allowed_not_irreducible():
    report = _report(None, 0.9, 0.8, 0.7, 0.7, up=True, extra=(_entry("requirement", 0.95),))
    assert _values(decompose(report))["allowed error"] == pytest.approx(0.05)
