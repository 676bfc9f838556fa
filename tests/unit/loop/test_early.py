"""A night may begin early when there is enough to learn from, and once between two others."""

import pytest

from flywheel.loop import Beginning, begin_night
from flywheel.loop.retrain import num_new_labels, why_not_early
from flywheel.records import Split
from flywheel.testing import blank_challenge, blank_checkpoint


@pytest.fixture
def labels(story):
    """Gives so many samples a label now."""

    def give(number, split=Split.TRAIN, **changes):
        asked = [one.sample_id for one in story.past.predict(*[0.5] * number, split=split)]
        story.past.label(asked, **changes)
        return asked

    return give


def trained(story, train_set="t1", version=None):
    """A candidate was trained now, or a night found the rows of a version."""
    name = version or f"version {train_set}"
    with story.past.at_once():
        made = story.past.version(id=name, train_set_digest=train_set)
        if version is None:
            checkpoint = {"digest": f"model {name}", "created_at": made.created_at}
            story.past.store(blank_checkpoint(dataset_id=name, **checkpoint))
        story.past.step(story.past.night(), "ingest", {})


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
    story.past.label(labels(2), answer=None)
    story.past.label(labels(5), answer="dog")
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


def test_an_open_challenge_keeps_no_night_waiting(enough):
    enough.past.challenge(blank_challenge())
    assert why_not_early(enough.loop) == ""


def test_one_night_begins_early_between_two_of_the_schedule(enough, labels):
    """Each night asks for labels, which would begin the next one, and so on."""
    with begin_night(enough.loop, beginning=Beginning(is_early=True)) as night:
        night.finish()
    assert "night 1 began early" not in why_not_early(enough.loop)  # it had begun before
    with begin_night(enough.loop, beginning=Beginning(is_early=True)) as night:
        night.finish()
    message = (
        "night 2 already began early at 2026-03-01 03:00 UTC. The next one is at 0 2 * * * UTC"
    )
    assert why_not_early(enough.loop).startswith(message)
    enough.wait(24)
    assert why_not_early(enough.loop) == ""


def test_a_night_by_hand_is_no_early_one(enough):
    for _ in range(2):
        with begin_night(enough.loop) as night:
            night.finish()
    assert why_not_early(enough.loop) == ""
