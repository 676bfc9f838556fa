"""The gate as a table of cases, and the laws that hold for all of them."""

import dataclasses
import math
import re

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from flywheel.decide.gate import decide
from flywheel.errors import SettingsError
from flywheel.ledger.codec import to_json
from flywheel.records import Entry, Estimate, FreshOutcomes, Verdict, canonical
from flywheel.settings.judging import Gate, Metric

_E = Estimate


def _gain(value, low, high, num_samples=100):
    return {"difference": _E(value=value, low=low, high=high, num_samples=num_samples)}


_SEALED = {"challenge": None, "fresh": None}
_FIRST = {**_SEALED, "champion_digest": None, "difference": None}
_CASES = {
    "shown on fresh labels": ({}, {}, "PROMOTE", r"^a gain above 0 in production is shown: e-value"),
    "significantly worse": (_gain(-0.1, -0.2, -0.01), {}, "REJECT", "significantly worse: its gain is -0.1"),
    "upper bound exactly 0": (_gain(-0.1, -0.2, 0.0), {}, "PROMOTE", "shown"),
    "nothing new": ({"candidate_digest": None}, {}, "NO-VERDICT", "nothing new was trained"),
    "sealed labels": (
        {**_SEALED, "no_challenge": "12 fresh labels are too few"}, {}, "NO-VERDICT",
        "^12 fresh labels are too few",
    ),
    "start data significantly worse": (
        {"start_difference": _E(value=-0.3, low=-0.4, high=-0.2, num_samples=99)},
        {}, "REJECT", "significantly worse by more than 0.1 on the held-out start data",
    ),
    "start data perhaps worse": (
        {"start_difference": _E(value=-0.3, low=-0.4, high=-0.05, num_samples=99)},
        {}, "PROMOTE", "shown",
    ),
    "NaN on the frozen set": (_gain(0.5, math.nan, 0.6), {}, "PROMOTE", "shown"),
    "first model": (_FIRST, {}, "PROMOTE", "^the first model: nothing serves yet"),
    "first model without start test": (
        {**_FIRST, "start_entries": ()}, {}, "PROMOTE", "^the first model: nothing serves yet$",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", _CASES)
def test_the_verdict_and_its_first_reason(judge, case):
    changes, gate, verdict, reason = _CASES[case]
    decision = judge({}, gate, **changes)
    assert decision.verdict == Verdict(verdict)
    assert re.search(reason, decision.reasons[0])


@pytest.mark.parametrize("score", [(0, 0, 40), (12, 12, 20), (3, 0, 30), (0, 20, 20)])
def test_ties_and_little_evidence_are_held(judge, outcomes, score):
    decision = judge(fresh=outcomes(*score))
    assert decision.verdict is Verdict.HOLD
    assert decision.e_value < decision.needed_e_value == 50


def test_a_gain_below_the_minimum_is_held_however_sure_it_is(judge, outcomes):
    fresh = outcomes(20, 0, 180)
    assert judge({}, {"min_gain": 0.0}, fresh=fresh).verdict is Verdict.PROMOTE
    assert judge({}, {"min_gain": 0.2}, fresh=fresh).verdict is Verdict.HOLD


def test_a_challenge_ends_with_its_verdict_and_not_before(judge, outcomes, worse_slice):
    assert judge().closes_challenge
    assert judge(slices=(worse_slice(-0.5),)).closes_challenge
    assert not judge(fresh=outcomes(6, 2, 32)).closes_challenge


def test_a_hopeless_challenge_is_given_up_and_says_why(judge, outcomes):
    decision = judge(fresh=outcomes(5, 10, 85))
    assert decision.closes_challenge
    assert "the challenge is given up" in decision.reasons[0]


def test_a_challenge_that_goes_on_says_what_would_settle_it(judge, outcomes):
    decision = judge(fresh=outcomes(9, 3, 28))
    assert not decision.closes_challenge
    assert re.search(
        r"e-value .* of 50 needed, on 40 fresh labels .*; forecast: it takes .* more labels of the "
        r"probability share; the chance that it is shown within 360 more is \d+%",
        decision.reasons[0],
    )


@pytest.mark.parametrize(("low", "is_said"), [(0.049, True), (0.0, False), (-0.01, False)])
def test_a_held_gain_whose_interval_excludes_0_is_explained(judge, outcomes, low, is_said):
    reasons = judge(fresh=outcomes(9, 3, 28), **_gain(0.093, low, 0.15)).reasons
    said = [reason for reason in reasons if "excludes 0, which is not yet a promotion" in reason]
    assert bool(said) is is_said
    assert all("for every night that one looks" in reason for reason in said)


@pytest.mark.parametrize("is_bounded", [True, False])
def test_both_tests_promote_what_only_wins(judge, outcomes, is_bounded):
    assert judge(fresh=outcomes(40, 0, is_bounded=is_bounded)).verdict is Verdict.PROMOTE


@pytest.mark.parametrize(
    ("scripted", "verdict"),
    [(0.96, "REJECT"), (0.95, "PROMOTE"), (0.0, "PROMOTE"), (math.nan, "PROMOTE")],
)
def test_the_first_model_must_not_be_worse_than_a_scripted_baseline(
    judge, entry, scripted, verdict
):
    start = (entry("candidate", 0.95), entry("majority", scripted, kind="scripted"))
    assert judge(**{**_FIRST, "start_entries": start}).verdict == verdict


def test_for_errors_smaller_is_better_also_for_the_first_model(judge, entry):
    start = (entry("candidate", 0.95), entry("majority", 0.2, kind="scripted"))
    first = {**_FIRST, "start_entries": start}
    worse = judge({"higher_is_better": False}, higher_is_better=False, **first)
    assert worse.verdict is Verdict.REJECT
    assert "worse than a scripted baseline" in worse.reasons[0]


@pytest.mark.parametrize(
    ("requirement", "verb"), [(0.99, "misses"), (0.9, "may meet"), (0.5, "meets")]
)
def test_a_missed_target_is_reported_and_blocks_nothing(judge, requirement, verb):
    decision = judge({"requirement": requirement})
    assert decision.verdict is Verdict.PROMOTE
    assert f"the candidate {verb} the requirement {requirement:g}" in decision.reasons[-1]


def test_without_a_candidate_the_champion_is_held_against_the_requirement(judge):
    reasons = judge({"requirement": 0.9}, candidate_digest=None).reasons
    assert "the champion misses the requirement 0.9: correct is 0.8" in reasons[-1]


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(baseline=st.one_of(st.none(), st.floats()))
def test_no_baseline_whatever_can_change_the_verdict(judge, baseline):
    metric = None if baseline is None else _E(value=baseline, low=0, high=0, num_samples=9)
    odd = (Entry(name="odd", kind="scripted", metric=metric),)
    assert judge(entries=odd, start_entries=odd).verdict is Verdict.PROMOTE


def test_the_same_report_gives_the_same_bytes(judge):
    assert canonical(to_json(judge())) == canonical(to_json(judge()))
    assert judge().id != judge(night=4).id


def test_other_rules_give_another_decision(judge):
    assert judge({}, {"slice_margin": 0.2}).id != judge().id
    assert judge({}, {"slice_margin": 0.2}).gate_settings["slice_margin"] == 0.2


def test_another_metric_than_the_reports_is_refused(report):
    night = report().created_at
    with pytest.raises(SettingsError, match=r"measures 'correct' .* settings say .*error_cm"):
        decide(report(), Metric(optimize="error_cm"), Gate(), now=night)


def test_a_challenge_without_outcomes_gives_no_verdict(judge):
    nothing = FreshOutcomes(gains=(), scales=(), is_bounded=True, num_new=0)
    assert judge(fresh=nothing).verdict is Verdict.NO_VERDICT


def test_an_empty_slice_vetoes_nothing(judge, worse_slice):
    empty = dataclasses.replace(worse_slice(-0.5), difference=None, num_samples=0)
    assert judge(slices=(empty,)).verdict is Verdict.PROMOTE
