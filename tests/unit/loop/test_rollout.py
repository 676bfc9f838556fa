"""With stages wanted a promoted candidate meets live traffic first, and the release is made otherwise."""

from datetime import timedelta

import pytest

from flywheel.errors import UserError
from flywheel.ledger.rollouts import add_counts, end_rollout, last_rollout
from flywheel.loop import release as releasing
from flywheel.loop.release import end_rollout_now, mark_promoted, roll_back
from flywheel.loop.rollout import describe_rollout
from flywheel.loop.steps import RELEASE
from flywheel.project import Project

CANDIDATE, CHAMPION, OTHER = "a" * 64, "b" * 64, "c" * 64


@pytest.fixture
def rolling(letters, story):
    """A project whose candidates are shadowed for two hours, and then answer callers."""
    letters.change(release={"shadow": "2h", "canary": [0.05, 0.25, 1.0], "min_requests": 50})
    story.change(project=letters.project)
    return story


def rollout_of(story):
    with story.loop.ledger.read() as connection:
        return last_rollout(connection)


def test_a_promoted_candidate_begins_in_the_shadow_and_the_champion_serves_on(rolling):
    kept = RELEASE.run(rolling.promoted())
    assert (kept.release_number, rolling.pointer.checkpoint_digest) == (None, CHAMPION)
    assert "shadow 100%, stage 1 of 4, for 0 of 120 minutes; 0 of 50 requests" in kept.note
    rollout = rollout_of(rolling)
    assert (rollout.digest, rollout.state, rollout.reason) == (CANDIDATE, "running", "decision d1")
    assert [stage.name for stage in rollout.stages[1:]] == [
        "canary 5%",
        "canary 25%",
        "canary 100%",
    ]
    assert set(rollout.limits) == {"errors", "deferred", "slow", "slow_ms", "differing", "outcomes"}


def test_a_night_that_is_run_again_begins_no_second_rollout(rolling):
    night = rolling.promoted()
    first, again = RELEASE.run(night), RELEASE.run(night)
    assert (first, rollout_of(rolling).number) == (again, 1)
    end_rollout_now(rolling.loop, "abort", "too slow")
    assert "aborted: aborted by hand: too slow" in RELEASE.run(night).note
    assert rollout_of(rolling).number == 1


def test_one_command_promotes(rolling):
    RELEASE.run(rolling.promoted())
    ended = end_rollout_now(rolling.loop, "promote", "all is well")
    assert (ended.state, rolling.server.serving) == ("promoted", CANDIDATE)
    assert rolling.pointer.checkpoint_digest == CANDIDATE
    assert rolling.pointer.reason == "decision d1; promoted by hand: all is well"


def test_one_command_aborts_and_the_champion_answers_all(rolling):
    RELEASE.run(rolling.promoted())
    assert end_rollout_now(rolling.loop, "abort", "looks odd").state == "aborted"
    assert rolling.pointer.checkpoint_digest == CHAMPION
    with pytest.raises(UserError, match="has no rollout under way"):
        end_rollout_now(rolling.loop, "abort", "again")


def test_a_rollback_ends_the_rollout_under_way(rolling):
    rolling.released(OTHER)
    rolling.released(CHAMPION)
    RELEASE.run(rolling.promoted())
    roll_back(rolling.loop, "bad")
    assert (rollout_of(rolling).state, rollout_of(rolling).note) == ("aborted", "released: bad")


def test_one_sentence_says_where_it_is(rolling):
    RELEASE.run(rolling.promoted())
    with rolling.loop.ledger.begin() as connection:
        add_counts(connection, rollout_of(rolling), {"requests": 12, "differing": 3, "dropped": 1})
    said = describe_rollout(rollout_of(rolling), rolling.loop.now())
    assert "12 of 50 requests, of these 3 differing, 1 dropped" in said
    later = rolling.loop.now() + timedelta(minutes=30)
    assert "for 30 of 120 minutes" in describe_rollout(rollout_of(rolling), later)


def test_what_the_released_candidate_fixes_is_marked_in_the_next_night_once(rolling, monkeypatch):
    marked = []
    monkeypatch.setattr(releasing, "mark_fixed", lambda *given: marked.append(given[1:]))
    night = rolling.promoted()
    RELEASE.run(night)
    mark_promoted(night)
    assert marked == []
    with rolling.loop.ledger.begin() as connection:
        end_rollout(connection, rollout_of(rolling), "promoted", "passed", rolling.loop.now())
    rolling.released(CANDIDATE)
    for _ in range(2):
        mark_promoted(night)
    assert marked == [(night.number, CANDIDATE)]


def test_without_stages_a_release_is_as_ever(story):
    assert RELEASE.run(story.promoted()).release_number == 2
    assert rollout_of(story) is None


@pytest.mark.parametrize(
    ("wanted", "said"),
    [
        ({"shadow": "2 hours"}, "is no duration"),
        ({"canary": [0.25, 0.05]}, "does not grow"),
        ({"canary": [1.5]}, "less than or equal to 1"),
        ({"guardrails": ["cpu"]}, "guardrails"),
    ],
)
def test_a_stage_that_cannot_be_is_an_error_of_the_settings(letters, wanted, said):
    given = letters.project.model_dump(mode="python") | {"release": wanted}
    with pytest.raises(ValueError, match=said):
        Project.model_validate(given)
