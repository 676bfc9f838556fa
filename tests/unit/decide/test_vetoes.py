"""What keeps a candidate back that has won on fresh labels."""

import pytest

from flywheel.records import Verdict


@pytest.mark.parametrize(
    ("high", "verdict"), [(-0.11, "REJECT"), (-0.1, "PROMOTE"), (0.3, "PROMOTE")]
)
def test_a_slice_that_is_significantly_worse_by_more_than_the_margin(
    judge, worse_slice, high, verdict
):
    assert judge(slices=(worse_slice(high),)).verdict == verdict


def test_a_protected_slice_has_no_margin(judge, worse_slice):
    slices = (worse_slice(-0.01, "phone"), worse_slice(-0.01, "faint"))
    decision = judge({}, {"protected_slices": ("phone",)}, slices=slices)
    assert decision.verdict is Verdict.REJECT
    assert decision.reasons[0].startswith("significantly worse on slice 'phone'")


def test_every_veto_is_reported(judge, worse_slice, watched, guarded):
    decision = judge(
        slices=(worse_slice(-0.2, "phone"),), watched=(watched((2, 3)),), guarded=guarded(5, 5)
    )
    assert decision.verdict is Verdict.REJECT
    assert ["error_cm.p90 < 1" in decision.reasons[0], "'phone'" in decision.reasons[1]] == [
        True
    ] * 2
    assert "fails 5 of 10 guarded failures" in decision.reasons[2]


@pytest.mark.parametrize(
    ("candidate", "champion", "gain", "verdict"),
    [
        ((2, 3), (0.1, 0.2), (-3, -2), "REJECT"),  # gives up what is kept
        ((0.9, 1.1), (0.1, 0.2), (-1, -0.5), "PROMOTE"),  # it may miss it or not
        ((2, 3), (4, 5), (1, 2), "PROMOTE"),  # on its way
        ((2, 3), (2, 3), (-0.5, 0.5), "PROMOTE"),  # no further off for all one can say
        ((4, 5), (2, 3), (-3, -1), "REJECT"),  # further off
        ((3, 14), (0.5, 19), (-3, 6), "PROMOTE"),  # closer, and the champion may miss it or not
        ((3, 14), (0.5, 12), (-6, 3), "REJECT"),  # further off, and the champion may keep it
    ],
)
def test_a_requirement_is_not_given_up_for_the_metric(
    judge, watched, candidate, champion, gain, verdict
):
    assert judge(watched=(watched(candidate, champion, gain),)).verdict == verdict


def test_strict_requirements_must_be_kept_at_once(judge, watched):
    for champion in ((4, 5), (0.5, 19)):
        missed = (watched((2, 3), champion, (1, 2)),)
        assert judge({}, {"strict_requirements": True}, watched=missed).verdict is Verdict.REJECT


def test_a_requirement_that_cannot_be_measured_gives_no_verdict(judge, watched):
    unknown = watched(None, note="recall is not defined: no sample is positive")
    decision = judge(watched=(unknown,))
    assert decision.verdict is Verdict.NO_VERDICT
    assert "error_cm.p90 < 1 could not be measured: recall is not defined" in decision.reasons[0]


def test_what_is_ignored_for_now_decides_nothing(judge, watched):
    assert judge(watched=(watched((50, 60), bound=None),)).verdict is Verdict.PROMOTE


def test_the_first_model_has_only_the_latency_to_keep(judge, watched):
    first = {"champion_digest": None, "difference": None, "challenge": None, "fresh": None}
    slow = watched((2, 3), None, None, formula="latency_ms.p95")
    assert judge(watched=(watched((2, 3), None, None),), **first).verdict is Verdict.PROMOTE
    assert judge(watched=(slow,), **first).verdict is Verdict.REJECT


@pytest.mark.parametrize(("lost", "verdict"), [(0, "PROMOTE"), (5, "PROMOTE"), (6, "REJECT")])
def test_guarded_failures_must_be_kept(judge, guarded, lost, verdict):
    assert judge(guarded=guarded(100 - lost, lost)).verdict == verdict


def test_a_failure_that_the_champion_fails_too_is_not_held_against_the_candidate(judge, guarded):
    assert judge(guarded=guarded(0, 0)).verdict is Verdict.PROMOTE
