"""Who may challenge, when, with how much of alpha; and the laws of a whole life of challenges."""

import dataclasses
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flywheel.decide.challenge import Standing, gives_up, next_challenge, share_of_alpha
from flywheel.records import Challenge, FreshOutcomes
from flywheel.settings.judging import Gate

_GATE = Gate(min_fresh_samples=30, challenges=3, challenge_samples=100, renewal_samples=50)


@pytest.fixture
def standing():
    """Two models, enough labels, no challenge yet; with what is to differ."""

    def build(**changes):
        fields = {
            "last": None,
            "is_closed": True,
            "candidate_digest": "a" * 64,
            "champion_digest": "b" * 64,
            "num_sealed": 30,
            "night": 7,
        }
        return Standing(**(fields | changes))

    return build


@pytest.fixture
def challenge():
    """The challenge of an older candidate against the champion, with what is to differ."""
    return Challenge(
        generation=1,
        number=1,
        challenger_digest="c" * 64,
        champion_digest="b" * 64,
        alpha=0.02,
        opened_night=4,
    )


@pytest.fixture
def outcomes():
    """(gains, scales) -> fresh outcomes."""

    def build(gains, scales=None):
        scales = scales or [1.0] * len(gains)
        return FreshOutcomes(
            gains=tuple(gains), scales=tuple(scales), is_bounded=True, num_new=len(gains)
        )

    return build


def test_the_first_challenge_gets_the_first_share_of_alpha(standing):
    opening = next_challenge(standing(), _GATE)
    assert opening.challenge == Challenge(
        generation=1,
        number=1,
        challenger_digest="a" * 64,
        champion_digest="b" * 64,
        alpha=share_of_alpha(0.05, 1, 3),
        opened_night=7,
    )
    assert opening.reason == ""


def test_an_open_challenge_goes_on_whatever_else_there_is(standing, challenge):
    for changes in ({}, {"candidate_digest": None}, {"num_sealed": 0}, {"num_sealed": 999}):
        opening = next_challenge(standing(last=challenge, is_closed=False, **changes), _GATE)
        assert opening.challenge is challenge
        assert opening.stale is None


def test_a_challenge_whose_champion_no_longer_serves_is_closed(standing, challenge):
    opening = next_challenge(
        standing(last=challenge, is_closed=False, champion_digest="d" * 64), _GATE
    )
    assert opening.stale is challenge
    assert opening.challenge.number == 2
    assert opening.challenge.champion_digest == "d" * 64


def test_a_stale_challenge_is_closed_also_when_no_other_opens(standing, challenge):
    now = standing(last=challenge, is_closed=False, champion_digest="d" * 64, num_sealed=3)
    opening = next_challenge(now, _GATE)
    assert opening.stale is challenge
    assert opening.challenge is None


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"num_sealed": 29}, "29 fresh labels are too few .* 30 are needed; label 1 more"),
        ({"num_sealed": 0}, "label 30 more samples"),
        ({"candidate_digest": None}, "nothing new was trained"),
        ({"champion_digest": None}, "nothing serves yet"),
        ({"candidate_digest": "b" * 64}, "candidate bbbbbbbbbbbb serves already"),
    ],
)
def test_without_a_challenge_the_reason_says_what_is_missing(standing, changes, reason):
    opening = next_challenge(standing(**changes), _GATE)
    assert opening.challenge is None
    assert re.search(reason, opening.reason)


def test_a_candidate_challenges_the_same_champion_only_once(standing, challenge):
    opening = next_challenge(standing(last=challenge, candidate_digest="c" * 64), _GATE)
    assert opening.challenge is None
    assert "had its challenge in night 4" in opening.reason
    rolled_back = standing(last=challenge, candidate_digest="c" * 64, champion_digest="d" * 64)
    assert next_challenge(rolled_back, _GATE).challenge.number == 2


@pytest.mark.parametrize(("sealed", "missing"), [(0, "50 more"), (49, "1 more")])
def test_a_spent_test_set_says_how_many_labels_renew_it(standing, challenge, sealed, missing):
    spent = dataclasses.replace(challenge, number=3)
    opening = next_challenge(standing(last=spent, num_sealed=sealed), _GATE)
    assert opening.challenge is None
    assert f"spent after 3 challenges; {missing} fresh labels renew it" in opening.reason


def test_enough_fresh_labels_start_a_generation_with_a_whole_budget(standing, challenge):
    spent = dataclasses.replace(challenge, number=3)
    opened = next_challenge(standing(last=spent, num_sealed=50), _GATE).challenge
    assert (opened.generation, opened.number) == (2, 1)
    assert opened.alpha == share_of_alpha(0.05, 1, 3)


def test_a_renewed_test_set_has_at_least_what_a_challenge_needs(standing, challenge):
    gate = _GATE.model_copy(update={"renewal_samples": 5})
    spent = standing(last=dataclasses.replace(challenge, number=3), num_sealed=20)
    assert "10 more fresh labels renew it" in next_challenge(spent, gate).reason


@given(sealed=st.lists(st.integers(0, 60), max_size=60))
def test_no_generation_ever_spends_more_than_alpha(sealed):
    last, spent = None, {}
    for night, num_sealed in enumerate(sealed):
        now = Standing(
            last=last,
            is_closed=True,
            candidate_digest=f"{night}",
            champion_digest="champion",
            num_sealed=num_sealed,
            night=night,
        )
        opened = next_challenge(now, _GATE).challenge
        if opened is not None:
            last = opened
            spent[opened.generation] = spent.get(opened.generation, 0.0) + opened.alpha
    assert all(total <= 0.05 + 1e-12 for total in spent.values())


@pytest.mark.parametrize(
    ("gains", "reason"),
    [
        ([1.0] * 100, "100 fresh labels are used of 100 allowed, and the evidence is 7;"),
        ([1.0] * 99, ""),
        ([0.0] * 59, ""),
        ([0.0] * 60, r"after 60 fresh labels the gain is 0, not above 0;"),
        ([-1.0] * 60, r"the gain is -1, not above 0;"),
        ([0.0] * 59 + [1.0], ""),
    ],
)
def test_a_challenge_is_given_up_when_spent_or_futile(outcomes, gains, reason):
    reason_given = gives_up(outcomes(gains), 7.0, _GATE)
    assert reason in reason_given
    assert bool(reason_given) is bool(reason)


def test_what_counts_as_a_gain_is_the_gain_in_production(outcomes):
    # three wins where production is seldom, one loss where it mostly is
    gains, scales = [1.0, 1.0, 1.0, -1.0] * 15, [0.1, 0.1, 0.1, 1.0] * 15
    assert gives_up(outcomes(gains), 1.0, _GATE) == ""
    assert "the gain is -0.538" in gives_up(outcomes(gains, scales), 1.0, _GATE)


def test_a_gain_below_the_least_useful_one_is_given_up(outcomes):
    gate = _GATE.model_copy(update={"min_gain": 0.1})
    assert "not above 0.1" in gives_up(outcomes([1.0] * 6 + [0.0] * 54), 1.0, gate)
