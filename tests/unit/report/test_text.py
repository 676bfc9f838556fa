"""Numbers, answers and absence in words."""

import math

import pytest

from flywheel.records import Estimate
from flywheel.report.kit import text


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (0.0, "0.000"),
        (0.9123, "0.912"),
        (-0.03, "-0.030"),
        (0.00004, "4.0e-05"),
        (12.345, "12.35"),
        (123.45, "123.5"),
        (12345.6, "12,346"),
    ],
)
def test_a_number_has_the_decimals_that_its_size_needs(value, said):
    assert text.number(value) == said


@pytest.mark.parametrize("value", [None, math.nan, math.inf])
def test_what_is_no_number_is_said_in_words(value):
    assert text.number(value) == "not enough data"


def test_an_estimate_stands_with_its_interval():
    value = Estimate(value=0.9, low=0.85, high=0.95, num_samples=40)
    assert text.estimate(value) == "0.900 [0.850, 0.950]"


def test_a_fixed_number_has_no_interval():
    fixed = Estimate(value=0.95, low=0.95, high=0.95, num_samples=0)
    assert text.estimate(fixed) == "0.950"


def test_a_measured_number_shows_even_an_interval_of_no_width():
    certain = Estimate(value=1.0, low=1.0, high=1.0, num_samples=40)
    assert text.estimate(certain) == "1.000 [1.000, 1.000]"


def test_a_long_answer_is_cut_and_a_structured_one_is_json():
    assert text.answer({"b": 1, "a": [2]}) == '{"a":[2],"b":1}'
    assert len(text.answer("x" * 500)) == 80


@pytest.mark.parametrize(
    ("seconds", "said"),
    [(0.04, "0.0 s"), (9.5, "9.5 s"), (59.0, "59 s"), (185.0, "3 min 5 s"), (7800.0, "2 h 10 min")],
)
def test_a_duration_is_said_as_people_say_it(seconds, said):
    assert text.duration(seconds) == said


@pytest.mark.parametrize(("share", "said"), [(0.95, "95 %"), (0.04217, "4.22 %"), (0.0, "0 %")])
def test_a_share_is_said_in_percent(share, said):
    assert text.percent(share) == said


@pytest.mark.parametrize(
    ("e_value", "full"), [(0.0, 0), (1.0, 0), (10.0, 10), (99.9, 19), (100.0, 20), (1e300, 20)]
)
def test_the_bar_of_evidence_is_empty_up_to_one_and_full_at_what_is_needed(e_value, full):
    assert text.evidence_bar(e_value, 100.0) == "█" * full + "░" * (20 - full)
