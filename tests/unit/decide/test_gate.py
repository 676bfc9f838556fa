"""The gate as a table of cases, and the laws that hold for all of them."""

import dataclasses
import math
import re
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flywheel.decide.gate import decide
from flywheel.errors import SettingsError
from flywheel.project import Gate, Metric
from flywheel.records import Entry, Estimate, Report, Verdict

_E = Estimate


def _gain(value, low, high, num_samples=100):
    return {"difference": _E(value=value, low=low, high=high, num_samples=num_samples)}


_CASES = {
    "surely better": (_gain(0.1, 0.02, 0.18), {}, {}, "PROMOTE", r"the candidate is better by 0\.1 \(0\.02 to 0\.18, 100 samples\); one with no gain above 0 would"),
    "a tie": (_gain(0, -0.05, 0.05), {}, {}, "HOLD", "no gain above 0 is shown"),
    "lower bound exactly 0": (_gain(0.1, 0.0, 0.2), {}, {}, "HOLD", "no gain above 0"),
    "lower bound is min_gain": (_gain(0.1, 0.05, 0.2), {}, {"min_gain": 0.05}, "HOLD", "above 0.05"),
    "above min_gain": (_gain(0.1, 0.051, 0.2), {}, {"min_gain": 0.05}, "PROMOTE", "above 0.05"),
    "surely worse": (_gain(-0.1, -0.2, -0.01), {}, {}, "REJECT", "surely worse: its gain is -0.1"),
    "upper bound exactly 0": (_gain(-0.1, -0.2, 0.0), {}, {}, "HOLD", "train a better one"),
    "nothing new": ({"candidate_digest": None}, {}, {}, "NO-VERDICT", "nothing new was trained"),
    "no difference": ({"difference": None}, {}, {}, "NO-VERDICT", "30 labeled samples"),
    "few samples": (_gain(0.5, 0.4, 0.6, 12), {}, {}, "NO-VERDICT", "18 more labeled"),
    "just enough": (_gain(0.5, 0.4, 0.6, 30), {}, {}, "PROMOTE", "30 samples"),
    "NaN bound": (_gain(0.5, math.nan, 0.6), {}, {}, "NO-VERDICT", "no difference"),
    "infinite bound": (_gain(0.5, 0.4, math.inf), {}, {}, "NO-VERDICT", "no difference"),
    "too slow": ({}, {"max_latency_ms": 4}, {}, "REJECT", "too slow: .* 5.0 ms, allowed are 4"),
    "fast enough": ({}, {"max_latency_ms": 5}, {}, "PROMOTE", "better"),
    "NaN latency": (
        {"latency_p95_ms": math.nan}, {"max_latency_ms": 5}, {}, "REJECT", "too slow",
    ),
    "no latency": ({"latency_p95_ms": None}, {"max_latency_ms": 5}, {}, "PROMOTE", "better"),
    "start data surely worse": (
        {"start_difference": _E(value=-0.3, low=-0.4, high=-0.2, num_samples=99)},
        {}, {}, "REJECT", "surely worse by more than 0.1 on the held-out start data",
    ),
    "start data perhaps worse": (
        {"start_difference": _E(value=-0.3, low=-0.4, high=-0.05, num_samples=99)},
        {}, {}, "PROMOTE", "better",
    ),
    "first model": ({"champion_digest": None, "difference": None}, {}, {}, "PROMOTE", "^the first model: nothing serves yet"),
    "first model too slow": (
        {"champion_digest": None, "difference": None}, {"max_latency_ms": 1}, {}, "REJECT", "too slow",
    ),
    "first model without start test": (
        {"champion_digest": None, "difference": None, "start_entries": ()},
        {}, {}, "PROMOTE", "^the first model: nothing serves yet$",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", _CASES)
def test_the_verdict_and_its_first_reason(judge, case):
    changes, metric, gate, verdict, reason = _CASES[case]
    decision = judge(metric, gate, **changes)
    assert decision.verdict == Verdict(verdict)
    assert re.search(reason, decision.reasons[0])


@pytest.mark.parametrize(
    ("high", "verdict"), [(-0.11, "REJECT"), (-0.1, "PROMOTE"), (0.3, "PROMOTE")]
)
def test_a_slice_that_is_surely_worse_by_more_than_the_margin_vetoes(
    judge, worse_slice, high, verdict
):
    assert judge(slices=(worse_slice(high),)).verdict == verdict


def test_an_empty_slice_vetoes_nothing(judge, worse_slice):
    empty = dataclasses.replace(worse_slice(-0.5), difference=None, num_samples=0)
    assert judge(slices=(empty,)).verdict is Verdict.PROMOTE


def test_every_veto_is_told(judge, worse_slice):
    slices = (worse_slice(-0.2, "phone"), worse_slice(-0.3, "faint"))
    reasons = judge({"max_latency_ms": 1}, slices=slices).reasons
    assert ["too slow" in reasons[0], "'phone'" in reasons[1], "'faint'" in reasons[2]] == [
        True
    ] * 3


def test_vetoes_are_told_beside_too_little_data(judge, worse_slice):
    decision = judge(**_gain(0.5, 0.4, 0.6, 12), slices=(worse_slice(-0.2),))
    assert decision.verdict is Verdict.NO_VERDICT
    assert "'phone'" in decision.reasons[1]


@pytest.mark.parametrize(
    ("scripted", "verdict"),
    [(0.96, "REJECT"), (0.95, "PROMOTE"), (0.0, "PROMOTE"), (math.nan, "PROMOTE")],
)
def test_the_first_model_must_not_be_worse_than_a_scripted_baseline(
    judge, entry, scripted, verdict
):
    start = (entry("candidate", 0.95), entry("majority", scripted, kind="scripted"))
    first = {"champion_digest": None, "difference": None, "start_entries": start}
    assert judge(**first).verdict == verdict


def test_for_errors_smaller_is_better_also_for_the_first_model(judge, entry):
    start = (entry("candidate", 0.95), entry("majority", 0.2, kind="scripted"))
    first = {"champion_digest": None, "difference": None, "start_entries": start}
    worse = judge({"higher_is_better": False}, higher_is_better=False, **first)
    assert worse.verdict is Verdict.REJECT
    assert "worse than a scripted baseline" in worse.reasons[0]


@pytest.mark.parametrize(
    ("requirement", "verb"), [(0.99, "misses"), (0.9, "meets"), (0.5, "meets")]
)
def test_a_missed_requirement_is_told_and_blocks_nothing(judge, requirement, verb):
    decision = judge({"requirement": requirement})
    assert decision.verdict is Verdict.PROMOTE
    assert f"the candidate {verb} the requirement {requirement:g}" in decision.reasons[-1]


def test_without_a_candidate_the_champion_is_held_against_the_requirement(judge):
    reasons = judge({"requirement": 0.9}, candidate_digest=None).reasons
    assert "the champion misses the requirement 0.9: correct is 0.8" in reasons[-1]


@given(baseline=st.one_of(st.none(), st.floats()))
def test_no_baseline_whatever_can_change_the_verdict(baseline):
    given_report = _plain_report(baseline)
    decision = decide(given_report, Metric(), Gate(), now=given_report.created_at)
    assert decision.verdict is Verdict.PROMOTE


def test_the_same_report_gives_the_same_decision(judge):
    assert judge() == judge()
    assert judge().id != judge(night=4).id


def test_another_metric_than_the_reports_is_refused(judge):
    with pytest.raises(SettingsError, match=r"measures 'correct' .* settings say 'error_cm'"):
        judge({"optimize": "error_cm"})


def test_a_held_candidate_is_told_how_many_test_samples_would_settle_it(judge):
    # the root of it over ten is 2.4865 standard errors for every 1.6449 measured, twice over
    decision = judge(**_gain(0.04, -0.04, 0.12, 100))
    assert "about 915 test samples would settle a gain of 0.04" in decision.reasons[0]


def _plain_report(baseline):
    metric = None if baseline is None else _E(value=baseline, low=0, high=0, num_samples=9)
    return Report(
        id="r",
        night=1,
        metric="correct",
        higher_is_better=True,
        candidate_digest="a",
        champion_digest="b",
        dataset_id="d",
        test_set_digest="t",
        entries=(Entry(name="odd", kind="scripted", metric=metric),),
        start_entries=(Entry(name="odd", kind="scripted", metric=metric),),
        slices=(),
        latency_p95_ms=1.0,
        alpha=0.05,
        scores_digest="s",
        created_at=datetime(2030, 1, 1, tzinfo=UTC),
        **_gain(0.1, 0.02, 0.18),
    )
