"""What serves changes at any time; a night releases only over what its report speaks of."""

import pytest

from flywheel.errors import FlywheelError, UnavailableError, UserError
from flywheel.ledger.locks import hold
from flywheel.loop.approval import Override, override
from flywheel.loop.release import roll_back
from flywheel.loop.steps import RELEASE
from flywheel.records import Verdict

CANDIDATE, CHAMPION, OTHER = "a" * 64, "b" * 64, "c" * 64


def test_a_promoted_candidate_serves_and_the_pointer_names_it(story):
    released = RELEASE.run(story.promoted())
    assert (released.release_number, story.server.serving) == (2, CANDIDATE)
    assert (story.pointer.checkpoint_digest, story.pointer.reason) == (
        CANDIDATE,
        "decision d1",
    )


def test_run_again_after_the_pointer_has_moved_it_comes_to_the_same_end(story):
    night = story.promoted()
    assert RELEASE.run(night) == RELEASE.run(night)
    assert story.pointer.number == 2


def test_going_back_does_not_wait_for_a_night_that_trains(story):
    story.released(OTHER)
    with hold(story.loop.ledger, "the loop", story.loop.now):
        assert roll_back(story.loop, "bad").checkpoint_digest == CHAMPION
    assert story.server.serving == CHAMPION


def test_a_night_whose_champion_no_longer_serves_releases_nothing(story):
    night = story.promoted()
    story.released(OTHER, "override by Ada")
    kept = RELEASE.run(night)
    assert (kept.release_number, kept.serving_digest, story.server.asked) == (None, OTHER, [])
    assert kept.note == (
        "the release changed since the decision, release 2 (override by Ada) keeps serving"
    )


def test_a_night_does_not_release_again_what_was_rolled_back(story):
    """The night was killed after its pointer had moved, and run again after the roll-back."""
    night = story.promoted()
    RELEASE.run(night)
    roll_back(story.loop, "bad")
    assert RELEASE.run(night).release_number is None
    assert (story.pointer.number, story.server.serving) == (3, CHAMPION)


def test_a_canary_that_fails_leaves_what_serves(story):
    story.canary = "3 of 32 answers differ"
    assert "3 of 32 answers differ" in RELEASE.run(story.promoted()).note
    assert story.pointer.number == 1


def test_a_server_that_does_not_answer_moves_no_pointer(story):
    story.server.fault = UnavailableError("no answer")
    with pytest.raises(FlywheelError, match="no answer"):
        RELEASE.run(story.promoted())
    assert story.pointer.number == 1


def test_without_an_earlier_release_there_is_no_way_back(story):
    with pytest.raises(UserError, match="has no earlier release to go back to"):
        roll_back(story.loop, "bad")


def test_an_override_is_stored_with_its_release_or_not_at_all(story):
    story.promoted(name="d1")
    wanted = Override(verdict=Verdict.PROMOTE, name="Ada", reason="I know it")
    story.server.fault = UnavailableError("no answer")
    with pytest.raises(UnavailableError):
        override(story.loop, "d1", wanted)
    story.server.fault = None
    decision, released = override(story.loop, "d1", wanted)
    assert (decision.overrides, released.number) == ("d1", 2)


def test_a_long_reason_fits_into_its_column(story):
    """PostgreSQL refuses what is longer; SQLite lets it through."""
    story.released(OTHER)
    assert len(roll_back(story.loop, "b" * 900).reason) == 500
