import pytest

from flywheel.errors import SettingsError
from flywheel.metrics.conditions import contradiction, parse_condition
from flywheel.metrics.parse import parse_formula


@pytest.mark.parametrize(
    ("sign", "is_upper", "is_strict"),
    [("<", True, True), ("<=", True, False), (">", False, True), (">=", False, False)],
)
def test_a_condition_has_a_formula_a_side_and_a_bound(sign, is_upper, is_strict):
    limit = parse_condition(f" s.fbeta(t, beta=2){sign}-1.5e-1 ")
    assert (limit.is_upper, limit.is_strict, limit.bound) == (is_upper, is_strict, -0.15)
    assert limit.formula == parse_formula("s.fbeta(t, beta=2)")
    assert limit.formula_text == "s.fbeta(t, beta=2)"


@pytest.mark.parametrize(
    "text",
    ["a", "", "a == 1", "a = 1", "a < b", "1 < a", "0 < a < 1", "a < nan", "a < inf", "a < 1e999"],
)
def test_what_is_no_condition_is_told_with_an_example(text):
    with pytest.raises(SettingsError, match="is no condition; write FORMULA < NUMBER") as caught:
        parse_condition(text)
    assert repr(text) in str(caught.value)


def test_a_fault_of_the_formula_names_the_condition():
    with pytest.raises(SettingsError, match=r"in 'a.meen < 3': 'a.meen': unknown aggregate 'meen'"):
        parse_condition("a.meen < 3")


NEVER = [
    ("error_cm.p90 < 1", "error_cm.p90 > 2"),
    ("error_cm.p90 > 2", "error_cm.quantile(0.9) < 1"),
    ("error_cm.p50 > 2", "error_cm.p90 < 1"),
    ("error_cm.p90 < 1", "error_cm.median > 1"),
    ("error_cm.p90 < 1", "error_cm.p90 >= 1"),
    ("error_cm.below(1) > 0.9", "error_cm.below(2) < 0.8"),
    ("error_cm.above(2) > 0.9", "error_cm.above(1) < 0.8"),
    ("a + b > 2", "a + b < 1"),
    ("my_task:cost > 2", "my_task:cost < 1"),
]
TOGETHER = [
    ("error_cm.p90 > 1", "error_cm.p90 < 2"),
    ("error_cm.p90 <= 1", "error_cm.p90 >= 1"),
    ("error_cm.p50 < 1", "error_cm.p90 > 2"),
    ("error_cm.p50 > 2", "error_deg.p90 < 1"),
    ("error_cm.mean > 2", "error_cm.p90 < 1"),
    ("error_cm.below(2) > 0.9", "error_cm.below(1) < 0.8"),
    ("error_cm.above(1) > 0.9", "error_cm.above(2) < 0.8"),
]


@pytest.mark.parametrize("texts", NEVER)
def test_a_contradiction_names_both(texts):
    for pair in (texts, texts[::-1]):
        fault = contradiction([parse_condition(text) for text in pair])
        assert fault == f"{pair[0]!r} and {pair[1]!r} can never be met together; change one"


@pytest.mark.parametrize("texts", TOGETHER)
def test_what_data_can_keep_is_no_contradiction(texts):
    for pair in (texts, texts[::-1]):
        assert contradiction([parse_condition(text) for text in pair]) is None


@pytest.mark.parametrize(
    "text",
    [
        "s.below(1) > 1",
        "s.below(1) >= 1.1",
        "s.above(1) < 0",
        "s.recall(t) <= -0.1",
        "s.f1(t) > 90",
    ],
)
def test_a_share_cannot_leave_its_range(text):
    fault = contradiction([parse_condition(text)])
    assert fault is not None
    assert fault.startswith(f"{text!r} can never be met: it is a share")


@pytest.mark.parametrize("text", ["s.below(1) >= 1", "s.above(1) <= 0", "s.mean > 3", "s < -1"])
def test_the_end_of_a_range_can_be_reached(text):
    assert contradiction([parse_condition(text)]) is None


def test_two_bounds_on_one_side_are_one_too_many():
    fault = contradiction([parse_condition("a < 1"), parse_condition("a.mean <= 2")])
    assert fault == "'a < 1' and 'a.mean <= 2' limit the same formula; keep one of them"
