"""Who may challenge, when, with how much of alpha; and the laws of a whole life of challenges."""

import dataclasses
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flywheel.decide.challenge import Standing, gives_up, next_challenges, share_of_alpha
from flywheel.decide.plan import Forecast
from flywheel.records import Challenge
from flywheel.settings.judging import Gate
from flywheel.testing import blank_challenge

_GATE = Gate(min_fresh_samples=30, challenges=3, challenge_samples=100, renewal_samples=50)


@pytest.fixture
def standing():
    """Two models, enough labels, no challenge yet; with what is to differ."""

    def build(**changes):
        fields = {
            "last": None,
            "open": (),
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
    return blank_challenge(challenger_digest="c" * 64, alpha=0.02, opened_night=4)


def test_the_first_challenge_gets_the_first_share_of_alpha(standing):
    opening = next_challenges(standing(), _GATE)
    first = Challenge(
        generation=1,
        number=1,
        challenger_digest="a" * 64,
        champion_digest="b" * 64,
        alpha=share_of_alpha(0.05, 1, 3),
        opened_night=7,
    )
    assert opening.challenges == (first,)
    assert opening.reason == ""


def test_an_open_challenge_goes_on_whatever_else_there_is(standing, challenge):
    for changes in ({}, {"candidate_digest": None}, {"num_sealed": 0}, {"num_sealed": 999}):
        now = standing(last=challenge, open=(challenge,), **changes)
        opening = next_challenges(now, _GATE)
        assert opening.challenges == (challenge,)
        assert opening.stale == ()


@pytest.mark.parametrize(
    ("labels", "number", "opens"),
    [(199, 1, False), (200, 1, True), (999, 2, True), (999, 3, False)],
)
def test_twice_as_many_labels_open_another_beside_an_open_challenge(
    standing, challenge, labels, number, opens
):
    """The third is the last challenge that this test set bears."""
    opened = dataclasses.replace(challenge, number=number, took_over=number - 1)
    now = standing(last=opened, open=(opened,), candidate_labels=labels, challenger_labels=100)
    opening = next_challenges(now, _GATE)
    assert opening.stale == ()
    beside = dataclasses.replace(
        opened,
        number=number + 1,
        challenger_digest="a" * 64,
        alpha=share_of_alpha(0.05, min(number + 1, 3), 3),
        opened_night=7,
        took_over=number,
    )
    assert opening.challenges == ((opened, beside) if opens else (opened,))


def test_the_labels_of_the_oldest_open_challenge_are_taken_over_though_the_newest_is_closed(
    standing, challenge
):
    """Challenge 2 of the chain 1, 2 was given up; 1 goes on."""
    newest = dataclasses.replace(challenge, number=2, took_over=1, challenger_digest="e" * 64)
    now = standing(last=newest, open=(challenge,), candidate_labels=200, challenger_labels=100)
    [first, beside] = next_challenges(now, _GATE).challenges
    assert (first, beside.number, beside.took_over) == (challenge, 3, 2)


@pytest.mark.parametrize("digest", [None, "b" * 64, "c" * 64])
def test_neither_the_two_models_of_a_challenge_nor_none_open_another(standing, challenge, digest):
    more = {"candidate_labels": 999, "challenger_labels": 100}
    now = standing(last=challenge, open=(challenge,), candidate_digest=digest, **more)
    assert next_challenges(now, _GATE).challenges == (challenge,)


def test_a_closed_challenge_passes_no_labels_on(standing, challenge):
    closed = dataclasses.replace(challenge, took_over=0)
    now = standing(last=closed, candidate_labels=999, challenger_labels=100)
    [opened] = next_challenges(now, _GATE).challenges
    assert opened.took_over == 0


def test_a_challenge_whose_champion_no_longer_serves_is_closed(standing, challenge):
    older = dataclasses.replace(challenge, number=1, challenger_digest="e" * 64)
    newest = dataclasses.replace(challenge, number=2)
    now = standing(last=newest, open=(older, newest), champion_digest="d" * 64)
    opening = next_challenges(now, _GATE)
    assert opening.stale == (older, newest)
    [opened] = opening.challenges
    assert (opened.number, opened.champion_digest, opened.took_over) == (3, "d" * 64, 0)


def test_a_stale_challenge_is_closed_also_when_no_other_opens(standing, challenge):
    now = standing(last=challenge, open=(challenge,), champion_digest="d" * 64, num_sealed=3)
    opening = next_challenges(now, _GATE)
    assert opening.stale == (challenge,)
    assert opening.challenges == ()


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"num_sealed": 29}, "29 fresh labels are too few .* 30 are needed; .* until 1 more"),
        ({"num_sealed": 0}, "until 30 more that were drawn at random"),
        ({"candidate_digest": None}, "nothing new was trained"),
        ({"champion_digest": None}, "nothing serves yet"),
        ({"candidate_digest": "b" * 64}, "candidate bbbbbbbbbbbb serves already"),
    ],
)
def test_without_a_challenge_the_reason_says_what_is_missing(standing, changes, reason):
    opening = next_challenges(standing(**changes), _GATE)
    assert opening.challenges == ()
    assert re.search(reason, opening.reason)


def test_a_candidate_challenges_the_same_champion_only_once(standing, challenge):
    opening = next_challenges(standing(last=challenge, candidate_digest="c" * 64), _GATE)
    assert opening.challenges == ()
    assert "had its challenge in night 4" in opening.reason
    rolled_back = standing(last=challenge, candidate_digest="c" * 64, champion_digest="d" * 64)
    assert [one.number for one in next_challenges(rolled_back, _GATE).challenges] == [2]


@pytest.mark.parametrize(("sealed", "missing"), [(0, "50 more"), (49, "1 more")])
def test_a_spent_test_set_says_how_many_labels_renew_it(standing, challenge, sealed, missing):
    spent = dataclasses.replace(challenge, number=3)
    opening = next_challenges(standing(last=spent, num_sealed=sealed), _GATE)
    assert opening.challenges == ()
    assert f"spent after 3 challenges; {missing} fresh labels renew it" in opening.reason


def test_enough_fresh_labels_start_a_generation_with_a_whole_budget(standing, challenge):
    spent = dataclasses.replace(challenge, number=3)
    [opened] = next_challenges(standing(last=spent, num_sealed=50), _GATE).challenges
    assert (opened.generation, opened.number) == (2, 1)
    assert opened.alpha == share_of_alpha(0.05, 1, 3)


def test_a_renewed_test_set_has_at_least_what_a_challenge_needs(standing, challenge):
    gate = _GATE.model_copy(update={"renewal_samples": 5})
    spent = standing(last=dataclasses.replace(challenge, number=3), num_sealed=20)
    assert "10 more fresh labels renew it" in next_challenges(spent, gate).reason


@given(sealed=st.lists(st.integers(0, 60), max_size=60))
def test_no_generation_ever_spends_more_than_alpha(sealed):
    last, spent = None, {}
    for night, num_sealed in enumerate(sealed):
        now = Standing(
            last=last,
            open=(),
            candidate_digest=f"{night}",
            champion_digest="champion",
            num_sealed=num_sealed,
            night=night,
        )
        for opened in next_challenges(now, _GATE).challenges:
            last = opened
            spent[opened.generation] = spent.get(opened.generation, 0.0) + opened.alpha
    assert all(total <= 0.05 + 1e-12 for total in spent.values())


@pytest.mark.parametrize(
    ("used", "chance", "reason"),
    [
        (100, 1.0, "100 fresh labels are used of 100 allowed, and the evidence is 7;"),
        (99, 0.05, ""),
        (59, 0.0, ""),
        (60, 0.05, ""),
        (60, 0.04, "after 60 fresh labels the chance that 40 more would show one is 4%, below 5%;"),
    ],
)
def test_a_challenge_is_given_up_when_spent_or_hopeless(used, chance, reason):
    ahead = Forecast(low=None, high=None, chance=chance, ahead=100 - used)
    given = gives_up(used, ahead, 7.0, _GATE)
    assert reason in given
    assert bool(given) is bool(reason)
