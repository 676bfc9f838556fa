"""A person has the last word: asked once, answered once, and a default after the deadline."""

import pytest

from flywheel.errors import UnavailableError, UserError
from flywheel.ledger.judged import find_approval, waiting_approval
from flywheel.loop import approval
from flywheel.loop.approval import (
    DEADLINE,
    Override,
    Reply,
    answer_approval,
    override,
    settle_deadline,
)
from flywheel.loop.retrain import _why_asked
from flywheel.loop.steps import RELEASE
from flywheel.records import Consent, Verdict
from flywheel.testing import blank_decision

CANDIDATE, CHAMPION, OTHER = "a" * 64, "b" * 64, "c" * 64


def says(answer, name="Ada", reason="because"):
    return Reply(answer=Consent(answer), name=name, reason=reason)


@pytest.fixture
def asked(asking):
    """The question of night 1 waits."""
    asking.released_step = RELEASE.run(asking.promoted())
    return asking


def find(story, start="d1"):
    with story.loop.ledger.read() as connection:
        return find_approval(connection, start)


def test_a_promoted_candidate_waits_and_the_night_says_until_when(asked):
    step = asked.released_step
    assert (step.release_number, step.serving_digest, step.waits) == (None, CHAMPION, find(asked))
    assert step.note == (
        "decision d1 of night 1 waits for approval until 2026-03-01 12:00 UTC, "
        "then the answer is decline"
    )


def test_the_step_run_again_asks_nothing_new(asked):
    asked.wait(3)
    assert RELEASE.run(asked.promoted()) == asked.released_step


def test_approving_releases_as_a_night_does(asked):
    answered = answer_approval(asked.loop, "", says("approve"))
    assert (answered.released.number, asked.server.serving) == (2, CANDIDATE)
    assert asked.pointer.reason == "decision d1, approved by Ada: because"
    assert answered.description == (
        "decision d1 of night 1 was approved by Ada at 2026-03-01 02:00 UTC: because; "
        "release 2 serves"
    )


def test_declining_leaves_what_serves(asked):
    answered = answer_approval(asked.loop, "d", says("decline"))
    assert (answered.released, asked.pointer.number, asked.server.asked) == (None, 1, [])
    assert answered.approval == find(asked)


@pytest.mark.parametrize("answer", ["approve", "decline"])
def test_the_same_answer_twice_is_one_answer(asked, answer):
    first = answer_approval(asked.loop, "", says(answer))
    again = answer_approval(asked.loop, "", says(answer, name="Bob"))
    assert (again.is_new, again.released, again.approval) == (False, None, first.approval)
    assert len(asked.server.asked) == (answer == "approve")


@pytest.mark.parametrize(("first", "then"), [("decline", "approve"), ("approve", "decline")])
def test_another_answer_is_refused_and_says_who_gave_the_first(asked, first, then):
    answer_approval(asked.loop, "", says(first))
    number = asked.pointer.number
    with pytest.raises(UserError, match=f"was {first}d by Ada at .*; it can no longer be answered"):
        answer_approval(asked.loop, "", says(then))
    assert asked.pointer.number == number


def test_where_nothing_was_asked_there_is_nothing_to_answer(story):
    with pytest.raises(
        UserError, match=r"no decision of .* waits for approval. Set \[approval\] wanted"
    ):
        answer_approval(story.loop, "", says("approve"))


@pytest.mark.parametrize("missing", ["name", "reason"])
def test_an_answer_needs_a_name_and_a_reason(missing):
    with pytest.raises(UserError, match=f"the {missing} of an answer is ' ', which is blank"):
        says("approve", **{missing: " "})


def test_nothing_is_settled_before_the_deadline(asked):
    asked.wait(9.9)
    assert settle_deadline(asked.loop) is None
    assert find(asked).answer is None


@pytest.mark.parametrize("default", ["decline", "approve"])
def test_after_the_deadline_the_default_counts_and_is_applied_once(asking, letters, default):
    letters.change(approval={"wanted": True, "hours": 10.0, "at_deadline": default})
    asking.change(project=letters.project)
    RELEASE.run(asking.promoted())
    asking.wait(10)
    settled = settle_deadline(asking.loop)
    assert (settled.approval.answer, settled.approval.answered_by) == (default, DEADLINE)
    assert asking.server.serving == (CANDIDATE if default == "approve" else CHAMPION)
    assert settle_deadline(asking.loop) is None


def test_who_answers_after_the_deadline_comes_too_late(asked):
    asked.wait(11)
    with pytest.raises(
        UserError, match=r"was declined by deadline .*no answer before the deadline"
    ):
        answer_approval(asked.loop, "", says("approve"))
    assert asked.pointer.number == 1


def test_the_run_of_the_deadline_takes_no_ones_place(asked):
    answer_approval(asked.loop, "", says("approve"))
    late = answer_approval(asked.loop, "d1", says("decline", name=DEADLINE))
    assert (late.is_new, late.approval.answer, asked.pointer.number) == (False, "approve", 2)


def test_a_newer_promotion_takes_the_place_of_the_one_that_waits(asked):
    newer = RELEASE.run(asked.promoted("newer", number=2)).waits
    assert find(asked).answer is Consent.SUPERSEDED
    with pytest.raises(UserError, match=r"was superseded at .*decision newer took its place"):
        answer_approval(asked.loop, "d1", says("approve"))
    assert answer_approval(asked.loop, "", says("decline")).approval.decision_id == "newer"
    assert newer.night == 2


def test_over_another_champion_nothing_is_approved(asked):
    asked.released(OTHER)
    with pytest.raises(UserError, match="another model has been released since"):
        answer_approval(asked.loop, "", says("approve"))
    assert (asked.pointer.checkpoint_digest, asked.server.asked) == (OTHER, [])


def test_a_question_over_another_champion_is_closed_by_the_next_night(asked):
    asked.released(OTHER)
    assert settle_deadline(asked.loop).approval.answer is Consent.SUPERSEDED


def test_a_canary_that_fails_can_be_fixed_and_approved_again(asked):
    asked.canary = "too slow"
    with pytest.raises(UserError, match=r"the canary of aaaaaaaaaaaa failed.*too slow"):
        answer_approval(asked.loop, "", says("approve"))
    asked.canary = ""
    assert answer_approval(asked.loop, "", says("approve")).released.number == 2


def test_at_the_deadline_a_canary_that_fails_is_a_no(asking, letters):
    letters.change(approval={"wanted": True, "hours": 1.0, "at_deadline": "approve"})
    asking.change(project=letters.project)
    RELEASE.run(asking.promoted())
    asking.wait(1)
    asking.canary = "too slow"
    settled = settle_deadline(asking.loop)
    assert settled.approval.answer is Consent.DECLINE
    assert "too slow" in settled.approval.reason


def test_a_server_that_does_not_answer_leaves_the_question(asked):
    asked.server.fault = UnavailableError("no answer")
    with pytest.raises(UnavailableError):
        answer_approval(asked.loop, "", says("approve"))
    assert (find(asked).answer, asked.pointer.number) == (None, 1)


def test_killed_before_the_pointer_has_moved_the_question_waits(asked, monkeypatch):
    def dies(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(approval, "store_answer", dies)
        with pytest.raises(KeyboardInterrupt):
            answer_approval(asked.loop, "", says("approve"))
    assert (find(asked).answer, asked.pointer.number) == (None, 1)
    assert answer_approval(asked.loop, "", says("approve")).released.number == 2


@pytest.mark.parametrize(
    ("verdict", "answer"), [(Verdict.PROMOTE, "approve"), (Verdict.REJECT, "decline")]
)
def test_who_overrides_a_decision_has_answered_its_question(asked, verdict, answer):
    override(asked.loop, "d1", Override(verdict=verdict, name="Ada", reason="I know"))
    assert (find(asked).answer, find(asked).answered_by) == (answer, "Ada")
    with asked.loop.ledger.read() as connection:
        assert waiting_approval(connection) is None


@pytest.mark.parametrize(
    ("answer", "ending"),
    [
        (None, "was promoted, which waits for approval"),
        ("decline", "was declined by Ada"),
        ("superseded", ""),
    ],
)
def test_what_a_person_has_in_hand_is_not_judged_again(asked, answer, ending):
    if answer == "decline":
        answer_approval(asked.loop, "", says("decline"))
    if answer == "superseded":
        asked.released(OTHER)
        settle_deadline(asked.loop)
    why = _why_asked(CANDIDATE, blank_decision(id="d1"), find(asked))
    assert why.endswith(ending)
    assert bool(why) == bool(ending)
