import numpy as np
import pytest

from flywheel.errors import SettingsError
from flywheel.metrics.compiled import compile_condition, compile_formula
from flywheel.metrics.names import check_scores, check_units, has_unit


@pytest.mark.parametrize(
    "name", ["error_cm", "turn_deg", "latency_ms", "cost_eur", "wait_min", "miss_count", "num_hits"]
)
def test_a_unit_is_seen_at_the_end_of_a_name(name):
    assert has_unit(name)


@pytest.mark.parametrize(
    "name", ["error", "correct", "cm", "error_rate", "cm_error", "number", "correct_a"]
)
def test_other_names_have_no_unit(name):
    assert not has_unit(name)


def test_all_scores_that_are_there_pass():
    statistic = compile_formula("0.5 * correct + p.precision(t) + e_cm.p90", None)
    check_scores(statistic, ["correct", "p", "t", "e_cm", "more"])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("corect", "no score is called 'corect'; did you mean 'correct'? known: correct, error_cm"),
        ("correct + correct.f1(truth)", "no score is called 'truth'; known: correct, error_cm"),
        ("latency_ms.p95", "latency_ms is measured on samples of its own and for the two models"),
    ],
)
def test_a_score_that_is_not_there_is_reported_with_the_nearest(text, message):
    with pytest.raises(SettingsError) as caught:
        check_scores(compile_formula(text, None), ["correct", "error_cm"])
    assert str(caught.value).startswith(f"{text!r}: {message}")


SCORES = {
    "error": np.array([0.5, 12.5]),
    "error_cm": np.array([0.5, 12.5]),
    "drift": np.array([-0.5, 0.5]),
    "share": np.array([0.0, 1.0]),
    "actual": np.array([1.0, 1.0]),
}


@pytest.mark.parametrize("text", ["error < 2", "error.p90 < 2", "1 - drift.median > 0"])
def test_a_bound_without_a_unit_is_refused(text):
    with pytest.raises(SettingsError, match=r"has no unit: the score '\w+' is .* such as \w+_cm"):
        check_units(compile_condition(text, None), SCORES)


@pytest.mark.parametrize(
    "text",
    [
        "error_cm < 2",
        "error_cm.p90 < 2",
        "share.mean > 0.5",
        "error.below(2) > 0.9",
        "error.above(2) < 0.1",
        "error.precision(actual) > 0.9",
        "error.average_precision(actual) > 0.9",
    ],
)
def test_shares_and_names_with_a_unit_are_enough(text):
    check_units(compile_condition(text, None), SCORES)


def test_units_are_checked_on_scores_that_are_there():
    with pytest.raises(SettingsError, match="no score is called 'eror'; did you mean 'error'"):
        check_units(compile_condition("eror < 2", None), SCORES)
