import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flywheel.annotators.pace import measure_pace


def test_nobody_has_no_pace_and_neither_has_who_has_no_times():
    assert measure_pace({}) == {}
    assert measure_pace({"ann": [], "bob": [math.nan, math.inf, -3.0]}) == {}


def test_equal_times_are_the_pace():
    pace = measure_pace({"ann": [30.0] * 12})["ann"]
    assert (pace.median, pace.num_answers) == (0.5, 12)
    assert pace.cap > 0.5
    assert pace.low == pytest.approx(pace.mean) == pytest.approx(pace.high) == pytest.approx(0.5)


def test_of_one_answer_nothing_more_is_known():
    pace = measure_pace({"ann": [30.0]})["ann"]
    assert (pace.mean, pace.low, pace.high) == pytest.approx((0.5, 0.0, math.inf))


def test_a_lunch_break_is_no_hour_of_work():
    honest = np.random.default_rng(0).lognormal(math.log(30), 0.5, 40)
    usual = measure_pace({"ann": honest})["ann"]
    lunch = measure_pace({"ann": [*honest, 3600.0]})["ann"]
    assert lunch.cap < 60
    assert lunch.mean == pytest.approx(usual.mean, rel=0.1)


def test_who_has_only_lunch_breaks_is_held_against_the_others():
    others = np.random.default_rng(1).lognormal(math.log(30), 0.5, 40)
    pace = measure_pace({"ann": [3600.0, 4000.0], "bob": others})["ann"]
    assert pace.cap < 60
    assert pace.mean < 5


def test_a_slow_person_is_slow_and_not_at_lunch():
    rng = np.random.default_rng(2)
    quick, slow = (rng.lognormal(math.log(middle), 0.5, 60) for middle in (10, 300))
    paces = measure_pace({"quick": quick, "slow": slow})
    assert np.count_nonzero(slow / 60 > paces["slow"].cap) <= 2
    assert paces["slow"].mean == pytest.approx(300 * math.exp(0.125) / 60, rel=0.2)


def test_times_that_are_none_are_left_out():
    with_gaps = [30.0, math.nan, 40.0, -1.0, math.inf] * 6
    assert measure_pace({"ann": with_gaps}) == measure_pace({"ann": [30.0, 40.0] * 6})


def test_a_time_of_nothing_is_a_time():
    pace = measure_pace({"ann": [0.0] * 20})["ann"]
    assert (pace.num_answers, pace.mean) == (20, 0.0)


def test_the_interval_holds_the_mean_of_honest_work():
    rng, held = np.random.default_rng(3), 0
    for _ in range(100):
        minutes = 0.5 * rng.lognormal(0, 0.7, 30)
        at_lunch = rng.random(30) < 0.05
        minutes[at_lunch] += rng.uniform(10, 90, at_lunch.sum())
        pace = measure_pace({"ann": minutes * 60})["ann"]
        held += pace.low <= 0.5 * math.exp(0.7**2 / 2) <= pace.high
    assert held >= 88


@given(
    st.dictionaries(
        st.sampled_from("abc"), st.lists(st.floats(allow_nan=True, width=32), max_size=12)
    )
)
def test_the_mean_is_within_its_interval_whatever_the_times(seconds):
    for pace in measure_pace(seconds).values():
        assert 0 <= pace.low <= pace.mean <= pace.high
