import pytest
from hypothesis import given
from hypothesis import strategies as st

from flywheel.errors import SettingsError
from flywheel.metrics.parse import (
    Aggregate,
    Combination,
    Function,
    Number,
    leaves,
    parse_formula,
)

MEAN = Aggregate(score="correct", kind="mean")


def fault_lines(text):
    """No line for a formula."""
    try:
        parse_formula(text)
    except SettingsError as error:
        return str(error).splitlines()
    return []


def told(text):
    with pytest.raises(SettingsError) as caught:
        parse_formula(text)
    return str(caught.value)


@pytest.mark.parametrize(
    ("text", "kind", "columns", "numbers"),
    [
        ("s", "mean", (), ()),
        ("s.mean()", "mean", (), ()),
        ("s.median", "quantile", (), (0.5,)),
        ("s.p5", "quantile", (), (0.05,)),
        ("s.p90", "quantile", (), (0.9,)),
        ("s.p999", "quantile", (), (0.999,)),
        ("s.quantile(0.25)", "quantile", (), (0.25,)),
        ("s.quantile(level=.25)", "quantile", (), (0.25,)),
        ("s.below(-1)", "below", (), (-1.0,)),
        ("s.above(2.5)", "above", (), (2.5,)),
        ("s.precision(t)", "precision", ("t",), (1.0,)),
        ("s.recall(t, positive=3)", "recall", ("t",), (3.0,)),
        ("s.f1(t)", "fbeta", ("t",), (1.0, 1.0)),
        ("s.fbeta(t, beta=2)", "fbeta", ("t",), (2.0, 1.0)),
        ("s.average_precision(t)", "average_precision", ("t",), (1.0,)),
        ("s.mean_average_precision(t, c)", "mean_average_precision", ("t", "c"), ()),
    ],
)
def test_an_aggregate_is_read(text, kind, columns, numbers):
    expected = Aggregate(score="s", kind=kind, columns=columns, numbers=numbers)
    assert parse_formula(text) == expected


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("correct", "correct.mean"),
        ("s.p90", " s.quantile( 0.90 ) "),
        ("s.f1(t)", "s.fbeta(t, beta=1.0)"),
        ("a + b * c", "a + (b * c)"),
        ("a - b - c", "(a - b) - c"),
    ],
)
def test_spellings_of_one_formula_are_equal(one, other):
    assert parse_formula(one) == parse_formula(other)


@pytest.mark.parametrize("operator", ["+", "-", "*", "/"])
def test_two_terms_are_put_together(operator):
    parts = (Number(value=2.0), MEAN)
    assert parse_formula(f"2 {operator} correct") == Combination(operator=operator, parts=parts)


def test_a_minus_before_a_term_is_a_difference_from_nothing():
    assert parse_formula("-correct") == parse_formula("0 - correct")
    assert parse_formula("-my_task:cost") == parse_formula("0 - my_task:cost")


def test_a_plain_mean_has_as_many_parts_as_are_written():
    tree = parse_formula("mean(correct, 1, correct)")
    assert tree == Combination(operator="mean", parts=(MEAN, Number(value=1.0), MEAN))


def test_a_tasks_own_function_stands_anywhere():
    tree = parse_formula("0.5 * correct + mean(pkg.my_task:cost, 1)")
    assert Function(path="pkg.my_task:cost") in set(leaves(tree))
    assert parse_formula("my_task:cost") == Function(path="my_task:cost")


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("", "is empty; write a formula such as correct"),
        ("correct +", "is no formula (invalid syntax); write one such as"),
        ("a\n+ b", "is no formula"),
        ("1if a else b", "is no formula"),
        ("(" * 300, "is no formula"),
        ("\0a", "is no formula"),
        ("x" * 1001, "has 1001 characters, 1000 are allowed"),
        ("-" * 900 + "a", "is nested deeper than 50 levels"),
        ("1 + 2", "names no score; write one"),
        ("'correct'", "holds a quotation mark"),
        ("correct.meen", "unknown aggregate 'meen'; did you mean 'mean'? known: mean, median"),
        ("a.b.c", "'a.b.c' has no place in a formula"),
        ("a if b else c", "'a if b else c' has no place in a formula"),
        ("[a]", "'[a]' has no place"),
        ("{a:b}", "'{a:b}' has no place"),
        ("a, b", "'(a, b)' has no place"),
        ("a ** 2", "holds the operator Pow; known are + - * /"),
        ("a / 0", "divides by 0"),
        ("min(a, b)", "'min(a, b)' is unknown; the only function of formulas is mean"),
        ("mean()", "'mean()' is unknown"),
        ("__import__(os)", "'__import__(os)' is unknown"),
        ("s.quantile(0)", "'s.quantile(0)': a level lies between 0 and 1"),
        ("s.quantile(1)", "'s.quantile(1)': a level lies between 0 and 1"),
        ("s.quantile(t)", "'t' is not a number"),
        ("s.p0", "p0 is no percentile; allowed are p1 to p99 and p900 to p999"),
        ("s.p100", "p100 is no percentile"),
        ("s.p90(2)", "'s.p90(2)': p90 takes no argument; write s.p90"),
        ("s.below", "missing a required argument: 'bound'; write below(bound)"),
        ("s.below(1, 2)", "too many positional arguments; write below(bound)"),
        ("s.below(1e999)", "is not a number"),
        ("s.below(True)", "'True' is not a number"),
        ("s.below(1j)", "'1j' is not a number"),
        ("s.precision", "missing a required argument: 'actual'"),
        ("s.precision(1)", "actual is the name of a score, not '1'"),
        ("s.precision(t, positve=1)", "unexpected keyword argument 'positve'"),
        ("s.f1(t, beta=2)", "unexpected keyword argument 'beta'; write f1(actual, positive)"),
        ("s.fbeta(t)", "missing a required argument: 'beta'"),
        ("s.fbeta(t, beta=0)", "beta is above 0"),
        ("latency_ms.p95 + correct", "mixes latency_ms with correct"),
        ("latency_ms.p95 + my_task:cost", "mixes latency_ms with my_task:cost"),
    ],
)
def test_what_is_no_formula_is_told_in_one_line(text, fault):
    message = told(text)
    assert message.startswith(f"{text!r}: ")
    assert fault in message
    assert len(message.splitlines()) == 1


@given(st.text("ab_.p90()+-*/,:=< {}[]'\n1e\\", max_size=40) | st.text(max_size=20))
def test_any_text_is_a_formula_or_one_line(text):
    lines = fault_lines(text)
    assert len(lines) == 1 or (not lines and parse_formula(text) == parse_formula(f" {text} "))
