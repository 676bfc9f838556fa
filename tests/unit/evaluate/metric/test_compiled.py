import math

import numpy as np
import pytest

from flywheel.errors import SettingsError, TaskError
from flywheel.metrics.compiled import compile_condition, compile_formula

OWN = """
def cost(scores, weights):
    return float((scores["error_cm"] * weights).sum())

def wrong(scores, weights):
    return "much"

value = 3
"""


def confused(tp, fp, fn, tn):
    """Scores of a model with this confusion matrix."""
    predicted, actual = np.repeat([[1.0, 1, 0, 0], [1, 0, 1, 0]], [tp, fp, fn, tn], axis=1)
    return {"predicted": predicted, "actual": actual, "correct": (predicted == actual) * 1.0}


def value(text, scores, directory=None):
    weights = np.ones((1, len(next(iter(scores.values())))))
    return compile_formula(text, directory)(scores, weights)[0]


@pytest.fixture
def own(tmp_path):
    (tmp_path / "own_terms.py").write_text(OWN)
    return tmp_path


@pytest.fixture
def table(rng):
    """Scores of 40 samples."""
    actual = rng.integers(0, 3, 40).astype(float)
    return {
        "error_cm": rng.exponential(size=40),
        "correct": rng.integers(0, 2, 40).astype(float),
        "predicted": np.where(rng.random(40) < 0.6, actual, 1.0),
        "actual": actual,
        "confidence": rng.random(40).round(1),
    }


def test_the_lectures_confusion_matrix():
    scores = confused(tp=45, fp=5, fn=45, tn=5)
    formulas = ["correct", "predicted.precision(actual)", "predicted.recall(actual)"]
    assert [value(text, scores) for text in formulas] == [0.5, 0.9, 0.5]


# Model -> its tp, fp and fn: precision and recall are 0.9 0.5, then 0.8 0.7, then 0.7 0.9.
MODELS = {1: (45, 5, 45), 2: (56, 14, 24), 3: (63, 27, 7)}


def averaged(model):
    scores = confused(*MODELS[model], tn=20)
    return value("mean(predicted.precision(actual), predicted.recall(actual))", scores)


def thresholded(model):
    scores = confused(*MODELS[model], tn=20)
    enough = compile_condition("predicted.recall(actual) > 0.6", None)
    met = enough.met(value(enough.statistic.text, scores))
    return value("predicted.precision(actual)", scores) if met else 0.0


def test_the_lectures_table_of_models():
    assert [averaged(model) for model in MODELS] == pytest.approx([0.70, 0.75, 0.80], abs=1e-15)
    assert [thresholded(model) for model in MODELS] == [0.0, 0.8, 0.7]


def test_the_two_ways_to_one_number_choose_different_models():
    assert (max(MODELS, key=averaged), max(MODELS, key=thresholded)) == (3, 2)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("s", 2.5),
        ("s.median", 2.5),
        ("s.p90", 4.0),
        ("s.quantile(0.25)", 1.5),
        ("s.below(2)", 0.25),
        ("s.above(2)", 0.5),
        ("0.7 * s + 0.3 * t", 0.7 * 2.5 + 0.3 * 10),
        ("mean(s, t, 1)", 4.5),
        ("t - s * 2", 5.0),
        ("(t - s) * 2", 15.0),
        ("t / s", 4.0),
        ("t / (s - 2.5)", math.nan),
        ("t / (s - 7.5)", -2.0),
        ("-s", -2.5),
        ("1 - s.below(2)", 0.75),
    ],
)
def test_a_formula_of_known_value(text, expected):
    scores = {"s": np.array([1.0, 2, 3, 4]), "t": np.full(4, 10.0)}
    assert value(text, scores) == pytest.approx(expected, nan_ok=True)


@pytest.mark.parametrize(("positive", "precision", "recall"), [(1, 1.0, 0.5), (2, 1 / 3, 1.0)])
def test_any_class_can_be_the_positive_one(positive, precision, recall):
    scores = {"p": np.array([1.0, 2, 2, 2]), "a": np.array([1.0, 1, 2, 0])}
    assert value(f"p.precision(a, positive={positive})", scores) == pytest.approx(precision)
    assert value(f"p.recall(a, positive={positive})", scores) == recall


def test_a_ranking_may_be_for_any_class():
    scores = {"c": np.array([0.9, 0.8, 0.7]), "a": np.array([1.0, 2, 1])}
    assert value("c.average_precision(a, positive=2)", scores) == 0.5
    assert value("c.average_precision(a)", scores) == pytest.approx((1 + 2 / 3) / 2)


FORMULAS = (
    "correct",
    "error_cm.p90 - error_cm.median",
    "0.7 * correct + 0.3 * error_cm.below(0.5)",
    "predicted.fbeta(actual, beta=2) / error_cm.above(0.1)",
    "mean(predicted.precision(actual, positive=2), predicted.recall(actual, positive=0))",
    "confidence.average_precision(actual)",
    "predicted.mean_average_precision(actual, confidence)",
    "own_terms:cost + correct",
)


@pytest.mark.parametrize("text", FORMULAS)
def test_all_rows_of_weights_at_once_are_row_by_row(text, table, own, rng):
    statistic = compile_formula(text, own)
    weights = rng.integers(0, 3, (7, 40)) * rng.random(40)
    rows = np.concatenate([statistic(table, row[None]) for row in weights])
    np.testing.assert_allclose(statistic(table, weights), rows, rtol=1e-12)


@pytest.mark.parametrize("text", FORMULAS)
def test_a_sample_without_weight_is_absent(text, table, own, rng):
    statistic = compile_formula(text, own)
    weights = np.where(rng.random(40) < 0.5, 0.0, rng.random(40))[None]
    kept = {name: values[weights[0] > 0] for name, values in table.items()}
    np.testing.assert_allclose(
        statistic(table, weights), statistic(kept, weights[weights > 0][None]), rtol=1e-12
    )


@pytest.mark.parametrize(
    ("text", "columns", "mean_of", "quantiles"),
    [
        ("a", {"a"}, "a", None),
        ("a.mean", {"a"}, "a", None),
        ("a + 1", {"a"}, None, None),
        ("a.below(1)", {"a"}, None, None),
        ("a.median", {"a"}, None, (("a", 0.5),)),
        ("a.p90 / 2 + b.p5 - a.p90", {"a", "b"}, None, (("a", 0.9), ("b", 0.05))),
        ("a.p90 + b", {"a", "b"}, None, None),
        ("a.f1(t)", {"a", "t"}, None, None),
        ("p.mean_average_precision(t, c)", {"p", "t", "c"}, None, None),
        ("own_terms:cost", set(), None, None),
        ("own_terms:cost + a", set(), None, None),
    ],
)
def test_a_statistic_says_what_it_depends_on(text, columns, mean_of, quantiles, own):
    statistic = compile_formula(f" {text} ", own)
    assert (statistic.text, statistic.columns) == (text, columns)
    assert (statistic.mean_of, statistic.quantiles) == (mean_of, quantiles)


@pytest.mark.parametrize(
    ("text", "ends"),
    [
        ("p.recall(a)", (0.0, 1.0)),
        ("0.5 * p.recall(a) + 0.5 * p.precision(a)", (0.0, 1.0)),
        ("1 - s.below(2)", (0.0, 1.0)),
        ("p.recall(a) - 2 * s.above(1)", (-2.0, 1.0)),
        ("mean(p.f1(a), h.micro_f1(e, m), 4)", (4 / 3, 2.0)),
        ("s.rms", (0.0, math.inf)),
        ("s.rms + p.f1(a)", None),
        ("p.recall(a) / p.precision(a)", None),
        ("s", None),
        ("own_terms:cost", None),
    ],
)
def test_a_statistic_knows_the_range_that_its_parts_give_it(text, ends, own):
    assert compile_formula(text, own).range == pytest.approx(ends)


def test_a_tasks_own_function_gets_scores_and_weights(own):
    statistic = compile_formula("own_terms:cost / 2", own)
    found = statistic({"error_cm": np.array([1.0, 2.0])}, np.array([[1.0, 1.0], [0.0, 3.0]]))
    assert found.tolist() == [1.5, 3.0]


def test_a_tasks_own_function_must_return_a_number(own):
    with pytest.raises(TaskError, match=r"own_terms:wrong returned str 'much'; .* return a float"):
        value("own_terms:wrong", {"s": np.ones(3)}, own)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("own_terms:cst", "has no function 'cst'; did you mean 'cost'?"),
        ("own_terms:value", "has no function 'value'"),
        ("no_such_terms:cost", "cannot import 'no_such_terms'"),
        ("correct.meen", "did you mean 'mean'?"),
    ],
)
def test_what_cannot_be_compiled_is_a_setting_to_fix(text, message, own):
    with pytest.raises(SettingsError) as caught:
        compile_formula(text, own)
    assert message in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1


def test_a_function_needs_a_project():
    with pytest.raises(SettingsError, match="own_terms:cost belongs to a project, and none is"):
        compile_formula("own_terms:cost", None)


def test_a_score_that_is_not_there_is_reported_when_it_is_needed(own):
    for text in ("corect", "corect + own_terms:cost"):
        with pytest.raises(SettingsError, match="no score is called 'corect'; did you mean"):
            value(text, {"correct": np.ones(3), "error_cm": np.ones(3)}, own)


@pytest.mark.parametrize(
    ("sign", "below", "at", "above"),
    [
        ("<", True, False, False),
        ("<=", True, True, False),
        (">", False, False, True),
        (">=", False, True, True),
    ],
)
def test_a_condition_is_met_on_its_side(sign, below, at, above):
    condition = compile_condition(f"error_cm.p90 {sign} 1.5", None)
    assert [condition.met(x) for x in (1.4, 1.5, 1.6)] == [below, at, above]
    assert not condition.met(math.nan)
    assert (condition.text, condition.bound) == (f"error_cm.p90 {sign} 1.5", 1.5)
    assert condition.statistic.text == "error_cm.p90"
