"""Projects that were deleted in Label Studio: what was open in them is sent to new ones."""

import copy

import pytest

from flywheel.annotate import PullResult
from flywheel.annotate.reconcile import ReconcileResult
from flywheel.errors import RefusedError
from flywheel.ledger.annotations import annotations_of
from flywheel.ledger.requests import ask_more
from flywheel.records import Purpose

NOTHING = ReconcileResult()


def test_a_deleted_project_is_lost_and_what_was_open_goes_to_a_new_one(
    letters, studio, says, send_now, pull_now, reconcile_now, stored
):
    answered, open_one = letters.choose(b"x1", b"x2")
    send_now()
    says(answered, "a")
    pull_now()
    studio.delete_project(1)
    assert reconcile_now() == ReconcileResult(num_again=1)
    assert reconcile_now() == NOTHING
    result = send_now()
    assert (result.num_sent, result.project_url) == (1, studio.page(2))
    assert studio.projects == {2: f"flywheel: {letters.project.project.name} 2"}
    assert [task.data["sample_id"] for task in studio.tasks.values()] == [open_one]
    assert letters.tasks()[answered][0] == "done"
    assert stored()["ann"].deleted_at is None
    assert letters.num_skips() == 1


def test_the_label_studio_of_another_project_takes_nothing_back(
    letters, sample_id, studio, says, send_now, pull_now, reconcile_now
):
    """Its project had the same number: what was open here counted as deleted."""
    before, mine, tasks = letters.rows(), studio.owners[1], dict(studio.tasks)
    studio.owners[1] = "0b" * 16
    studio.tasks.clear()
    for act in (reconcile_now, send_now, pull_now):
        with pytest.raises(
            RefusedError, match=r"not the server that has this one's labeling tasks"
        ):
            act()
    assert letters.rows() == before
    studio.owners[1] = mine
    studio.tasks.update(tasks)
    assert reconcile_now() == NOTHING
    says(sample_id, "a")
    assert pull_now().num_annotations == 1


def test_sending_alone_notices_a_deleted_project(letters, sample_id, studio, send_now):
    """A new project was put in the old one's place, and what was open counted as deleted."""
    (new,) = letters.choose(b"x2")
    studio.delete_project(1)
    assert send_now().num_sent == 2
    assert {task.data["sample_id"] for task in studio.tasks.values()} == {sample_id, new}
    assert len({task.project for task in studio.tasks.values()}) == 1


def test_a_second_opinion_that_was_asked_for_in_a_deleted_project_is_asked_for_in_a_new_one(
    letters, sample_id, studio, says, send_now, pull_now, now
):
    """The next sample with that number was asked about instead."""
    says(sample_id, "a")
    pull_now()
    (other,) = letters.choose(b"x2")
    with letters.ledger.begin() as connection:
        ask_more(connection, [sample_id], Purpose.CHOICE, "disputed", 0, now)
    studio.delete_project(1)
    send_now()
    asked = {task.data["sample_id"]: task.num_annotators for task in studio.tasks.values()}
    assert asked == {sample_id: 1, other: 1}
    says(sample_id, "b", by="bob")
    pull_now()
    assert letters.tasks()[sample_id][0] == "done"
    assert send_now().num_more == 0


def test_a_second_opinion_on_what_was_finished_in_a_deleted_project_is_asked_for_in_a_new_one(
    letters, sample_id, studio, says, send_now, pull_now, now
):
    says(sample_id, "a")
    pull_now()
    studio.delete_project(1)
    pull_now()
    with letters.ledger.begin() as connection:
        ask_more(connection, [sample_id], Purpose.CHOICE, "disputed", 0, now)
    assert send_now().num_sent == 1
    assert [task.num_annotators for task in studio.tasks.values()] == [1]


def test_a_campaign_whose_project_is_there_goes_on_while_another_is_lost(
    letters, studio, send_now, reconcile_now
):
    letters.change(labeling={"campaign_samples": 10})
    letters.choose(*(b"sample %d" % number for number in range(12)))
    send_now()
    studio.delete_project(1)
    assert reconcile_now() == ReconcileResult(num_again=10)
    assert send_now().num_sent == 10
    assert sorted(task.project for task in studio.tasks.values()) == [2] * 10 + [3] * 2


def test_what_a_back_up_that_was_restored_lacks_was_not_deleted_by_annotators(
    letters, studio, send_now, says, pull_now, reconcile_now
):
    ids = letters.choose(*(f"x{index}".encode() for index in range(12)))
    send_now()
    back_up = copy.deepcopy(studio.tasks)
    for sample_id in ids:
        says(sample_id, "b")
    pull_now()
    reconcile_now()
    studio.tasks = back_up
    assert reconcile_now().read == PullResult()
    with letters.ledger.read() as connection:
        assert [one.answer for one in annotations_of(connection, ids)] == ["b"] * 12
    assert letters.num_skips() == 1


def test_a_few_answers_that_are_gone_were_deleted_whatever_the_clock_says(
    letters, studio, send_now, says, pull_now, reconcile_now
):
    ids = letters.choose(*(f"x{index}".encode() for index in range(3)))
    send_now()
    back_up = copy.deepcopy(studio.tasks)
    for sample_id in ids:
        says(sample_id, "b")
    pull_now()
    studio.tasks = back_up
    assert reconcile_now().read == PullResult(num_deleted=3)
