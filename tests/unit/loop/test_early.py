"""A night may begin early when there is enough to learn from, and once between two others."""

import pytest

from flywheel.ledger.datasets import add_version
from flywheel.ledger.decisions import open_challenge
from flywheel.ledger.nights import FinishedStep, finish_step, open_night
from flywheel.ledger.releases import add_checkpoint
from flywheel.loop import Beginning, begin_night, num_new_labels
from flywheel.loop.retrain import why_not_early
from flywheel.records import Challenge, Checkpoint, DatasetVersion, Split


@pytest.fixture
def labels(story, make_crew):
    """Gives so many samples a label now."""
    crew = make_crew(story.loop.ledger)
    crew.production.now = story.loop.now()

    def give(number, split=Split.TRAIN, **changes):
        asked = [one.sample_id for one in crew.production.predict(*[0.5] * number, split=split)]
        crew.now = story.loop.now()
        crew.label(asked, **changes)
        return asked

    give.crew = crew
    return give


def trained(story, train_set="t1", version=None):
    """A candidate was trained now, or a night found the rows of a version."""
    now = story.loop.now()
    made = DatasetVersion(
        id=version or f"version {train_set}",
        parent_id=None,
        num_train=1,
        num_test=0,
        num_start_test=0,
        train_set_digest=train_set,
        test_set_digest="t",
        created_at=now,
    )
    checkpoint = Checkpoint(
        digest=f"model {made.id}",
        parent_digest=None,
        dataset_id=made.id,
        seed=1,
        settings={},
        device="cpu",
        losses=(),
        train_seconds=1.0,
        created_at=now,
    )
    with story.loop.ledger.begin() as connection:
        add_version(connection, made)
        if version is None:
            add_checkpoint(connection, checkpoint)
        open_night(connection, now)
        finish_step(connection, 0, FinishedStep("ingest", {}, 1.0), now)


@pytest.fixture
def enough(story, letters, labels):
    letters.change(train={"enough_labels": 3})
    story.change(project=letters.project)
    trained(story)
    story.wait(1)
    labels(3)
    return story


def test_labels_count_until_a_candidate_is_trained_on_them(story, labels):
    trained(story, "t0")
    assert num_new_labels(story.loop) == 0
    story.wait(1)
    labels(4)
    assert num_new_labels(story.loop) == 4
    trained(story)
    assert num_new_labels(story.loop) == 0


def test_only_peoples_labels_that_train_and_stand_count(story, labels):
    trained(story)
    story.wait(1)
    labels(2, split=Split.TEST)
    labels(2, source="sensor")
    labels.crew.label(labels(2), answer=None)
    labels.crew.label(labels(5), answer="dog")
    assert num_new_labels(story.loop) == 5


def test_labels_that_a_night_left_out_for_good_do_not_count_each_time(story, labels):
    """A hundred copies of test samples would begin a night every day."""
    trained(story)
    story.wait(1)
    labels(4)
    trained(story, version="the same rows")
    assert num_new_labels(story.loop) == 0
    story.wait(1)
    labels(2)
    assert num_new_labels(story.loop) == 2


def test_a_night_begins_early_when_there_are_enough(enough, labels, letters):
    assert why_not_early(enough.loop) == ""
    letters.change(train={"enough_labels": 4})
    enough.change(project=letters.project)
    assert why_not_early(enough.loop) == "3 new labels, 4 are enough ([train] enough_labels)"


def test_while_a_challenge_is_open_no_candidate_would_be_trained(enough):
    challenge = Challenge(
        generation=1,
        number=1,
        challenger_digest="a" * 64,
        champion_digest="b" * 64,
        alpha=0.01,
        opened_night=0,
    )
    with enough.loop.ledger.begin() as connection:
        open_challenge(connection, challenge, [], 0)
    assert "wait until the challenge of aaaaaaaaaaaa is decided" in why_not_early(enough.loop)


def test_one_night_begins_early_between_two_of_the_schedule(enough, labels):
    """Each night asks for labels, which would begin the next one, and so on."""
    with begin_night(enough.loop, beginning=Beginning(is_early=True)) as night:
        night.finish()
    assert "night 0 began early" not in why_not_early(enough.loop)  # it had begun before
    with begin_night(enough.loop, beginning=Beginning(is_early=True)) as night:
        night.finish()
    message = (
        "night 1 already began early at 2026-03-01 03:00 UTC. The next one is at 0 2 * * * UTC"
    )
    assert why_not_early(enough.loop).startswith(message)
    enough.wait(24)
    assert why_not_early(enough.loop) == ""


def test_a_night_by_hand_is_no_early_one(enough):
    for _ in range(2):
        with begin_night(enough.loop) as night:
            night.finish()
    assert why_not_early(enough.loop) == ""
