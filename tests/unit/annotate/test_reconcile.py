"""The ledger held against all that is in Label Studio; each row of the table in `reconcile`."""

import dataclasses
from copy import deepcopy
from datetime import timedelta

import pytest

from flywheel.annotate import PullResult, order_queue
from flywheel.annotate.reconcile import ReconcileResult
from flywheel.errors import BusyError, UnavailableError
from flywheel.ledger.locks import hold
from flywheel.ledger.requests import ask_more
from flywheel.records import Purpose

NOTHING = ReconcileResult()
LOST = UnavailableError("the answer got lost")


def counts(result):
    """What a reconciliation found, apart from what it read."""
    return {
        field.name: value
        for field in dataclasses.fields(result)
        if field.name != "read" and (value := getattr(result, field.name))
    }


def test_where_nothing_differs_nothing_is_done(
    letters, studio, says, send_now, pull_now, reconcile_now
):
    first, _ = letters.choose(b"x1", b"x2")
    send_now()
    says(first, "a")
    pull_now()
    before = letters.rows(), deepcopy(studio.tasks)
    assert reconcile_now() == NOTHING
    assert (letters.rows(), studio.tasks) == before


def test_nothing_sent_is_nothing_swept(letters, studio, reconcile_now):
    letters.choose(b"x1")
    studio.is_down = True
    assert reconcile_now() == NOTHING


def test_a_deleted_open_labeling_task_is_set_aside_and_not_sent_again(
    letters, sample_id, studio, reconcile_now, send_now
):
    studio.tasks.clear()
    assert counts(reconcile_now()) == {"num_missing": 1}
    assert letters.tasks()[sample_id][0] == "refused"
    assert "deleted in Label Studio before it was finished" in letters.tasks()[sample_id][2]
    assert (send_now().num_sent, len(studio.tasks), letters.num_skips()) == (0, 0, 1)
    assert reconcile_now() == NOTHING


def test_a_finished_labeling_task_that_is_deleted_stays_as_it_is(
    letters, sample_id, studio, says, pull_now, reconcile_now, stored
):
    says(sample_id, "a")
    pull_now()
    studio.tasks.clear()
    assert reconcile_now() == NOTHING
    assert letters.tasks()[sample_id][0] == "done"
    assert stored()["ann"].deleted_at is None


def test_most_of_them_gone_at_once_is_an_accident_and_they_are_sent_again(
    letters, studio, reconcile_now, send_now
):
    ids = letters.choose(*(b"sample %d" % number for number in range(21)))
    send_now()
    for sample_id in ids[:11]:
        del studio.tasks[studio.find(sample_id)]
    assert counts(reconcile_now()) == {"num_again": 11}
    assert {letters.tasks()[key][:2] for key in ids[:11]} == {("waiting", None)}
    assert send_now().num_sent == 11
    assert sorted(task.data["sample_id"] for task in studio.tasks.values()) == sorted(ids)
    assert (reconcile_now(), letters.num_skips()) == (NOTHING, 0)


@pytest.mark.parametrize(("there", "gone"), [(10, 10), (24, 12)])
def test_a_few_or_less_than_half_of_them_gone_is_what_annotators_wanted(
    letters, studio, reconcile_now, send_now, there, gone
):
    ids = letters.choose(*(b"sample %d" % number for number in range(there)))
    send_now()
    for sample_id in ids[:gone]:
        del studio.tasks[studio.find(sample_id)]
    assert counts(reconcile_now()) == {"num_missing": gone}


def test_answers_stay_when_the_number_of_their_labeling_task_is_given_out_again(
    letters, studio, says, send_now, pull_now, reconcile_now, stored
):
    """What was sent again got the same number, and the answer missing there counted as deleted."""
    (first, *_) = letters.choose(*(b"sample %d" % n for n in range(11)), num_annotators=2)
    send_now()
    number = studio.find(first)
    says(first, "a")
    pull_now()
    studio.tasks.clear()
    reconcile_now()
    send_now()
    assert studio.find(first) == number
    says(first, "b", by="bob")
    assert pull_now() == PullResult(num_annotations=1)
    assert {name: row.deleted_at for name, row in stored().items()} == {"ann": None, "bob": None}
    studio.remove(first, by="bob")
    assert pull_now() == PullResult(num_deleted=1)
    assert stored()["ann"].deleted_at is None


def test_an_annotator_who_answered_before_is_not_asked_again(
    letters, studio, says, send_now, pull_now, reconcile_now
):
    (first, *others) = letters.choose(*(b"sample %d" % n for n in range(11)), num_annotators=3)
    send_now()
    says(first, "a")
    pull_now()
    studio.tasks.clear()
    reconcile_now()
    send_now()
    asked = {task.data["sample_id"]: task.num_annotators for task in studio.tasks.values()}
    assert asked == {first: 2} | dict.fromkeys(others, 3)


def test_an_answer_that_comes_back_with_its_labeling_task_counts_once_and_can_be_deleted(
    letters, studio, says, send_now, pull_now, reconcile_now, stored
):
    """An administrator restored the server's back-up after we had noticed that it was empty."""
    (first, *_) = letters.choose(*(b"sample %d" % n for n in range(11)), num_annotators=2)
    send_now()
    says(first, "a")
    pull_now()
    kept = dict(studio.tasks)
    studio.tasks.clear()
    reconcile_now()
    studio.tasks = kept
    found = reconcile_now()
    assert (counts(found), found.read) == ({"num_unnoted": 11}, PullResult())
    studio.remove(first, by="ann")
    assert pull_now() == PullResult(num_deleted=1)


def test_copies_that_that_is_not_begun_are_deleted(letters, sample_id, studio, says, reconcile_now):
    known = studio.find(sample_id)
    for _ in range(3):
        studio.copy(sample_id)
    assert counts(reconcile_now()) == {"num_copies": 3}
    assert list(studio.tasks) == [known]
    assert reconcile_now() == NOTHING


def test_of_two_the_one_that_was_begun_stays(letters, sample_id, studio, says, reconcile_now):
    """The one that the ledger knew stayed too, and an annotator was asked once more."""
    copy = studio.copy(sample_id)
    says(copy, "b")
    found = reconcile_now()
    assert (counts(found), found.read) == ({"num_copies": 1}, PullResult(num_annotations=1))
    assert list(studio.tasks) == [copy]
    assert letters.tasks()[sample_id] == ("done", copy, "")
    assert reconcile_now() == NOTHING


@pytest.mark.parametrize("is_read", [False, True])
@pytest.mark.parametrize("more", [0, 1])
def test_in_a_copy_that_was_begun_as_many_are_asked_as_were_wanted(
    letters, studio, says, send_now, pull_now, reconcile_now, now, more, is_read
):
    """A copy asks one annotator, and after one answer it was done."""
    (sample_id,) = letters.choose(b"x1", num_annotators=2)
    with letters.ledger.begin() as connection:
        ask_more(connection, [sample_id] * more, Purpose.CHOICE, "disputed", 0, now)
    send_now()
    copy = studio.copy(sample_id)
    says(copy, "b")
    if is_read:
        pull_now()
    assert counts(reconcile_now()) == {"num_copies": 1, "num_restored": 1}
    assert (studio.tasks[copy].num_annotators, studio.tasks[copy].is_finished) == (2 + more, False)
    assert letters.tasks()[sample_id] == ("sent", copy, "")
    assert reconcile_now() == NOTHING


def test_of_two_that_were_begun_both_stay_and_both_count(
    letters, sample_id, studio, says, reconcile_now, stored
):
    known, copy = studio.find(sample_id), studio.copy(sample_id)
    says(known, "a", by="ann")
    says(copy, "b", by="bob")
    found = reconcile_now()
    assert (counts(found), found.read) == ({"num_twins": 1}, PullResult(num_annotations=2))
    assert letters.tasks()[sample_id] == ("done", known, "")
    assert {name: row.answer for name, row in stored().items()} == {"ann": "a", "bob": "b"}
    assert reconcile_now().read == PullResult()


def test_a_draft_counts_as_begun(sample_id, studio, reconcile_now):
    copy = studio.copy(sample_id)
    studio.tasks[copy].has_draft = True
    assert counts(reconcile_now()) == {"num_copies": 1}
    assert list(studio.tasks) == [copy]


@pytest.mark.parametrize(
    "change", [{"reason": "nicer"}, {"confidence": None}, {"key": None}, {"key": "mine"}]
)
def test_what_was_edited_by_hand_is_written_again(
    change, letters, sample_id, studio, reconcile_now
):
    studio.edit(sample_id, **change)
    assert counts(reconcile_now()) == {"num_restored": 1}
    assert studio.tasks[studio.find(sample_id)].data == letters.rows()[sample_id].data
    assert letters.tasks()[sample_id][0] == "sent"
    assert reconcile_now() == NOTHING


def test_what_annotators_answered_while_the_key_was_away_comes_with_it(
    sample_id, studio, says, pull_now, reconcile_now, stored
):
    studio.edit(sample_id, key="mine")
    says(sample_id, "b")
    assert pull_now() == PullResult(num_unknown=1)
    assert reconcile_now().read == PullResult(num_annotations=1)
    assert pull_now() == PullResult()
    assert stored()["ann"].sample_id == sample_id


def test_what_annotators_answered_counts_though_the_key_is_away_and_a_copy_has_it(
    sample_id, studio, says, reconcile_now, stored
):
    """The copy was taken for the original, and the answer for something made by hand."""
    known, copy = studio.find(sample_id), studio.copy(sample_id)
    studio.tasks[known].data["key"] = None
    says(known, "b")
    assert reconcile_now().read == PullResult(num_annotations=1)
    assert list(studio.tasks) == [known]
    assert copy != known
    assert stored()["ann"].sample_id == sample_id
    assert reconcile_now() == NOTHING


def test_what_annotators_answered_in_a_copy_without_a_key_counts(
    sample_id, studio, says, reconcile_now, stored
):
    known, copy = studio.find(sample_id), studio.copy(sample_id)
    studio.tasks[copy].data["key"] = None
    says(copy, "b")
    assert reconcile_now().read == PullResult(num_annotations=1)
    assert known not in studio.tasks
    assert stored()["ann"].sample_id == sample_id
    assert reconcile_now() == NOTHING


def test_what_was_made_by_hand_is_reported_once_and_left_alone(
    letters, sample_id, studio, says, reconcile_now, stored
):
    number = studio.put(1, {"text": "hello"})
    says(number, "a")
    assert [counts(reconcile_now()) for _ in range(2)] == [{"num_foreign": 1}] * 2
    assert studio.tasks[number].data == {"text": "hello"}
    assert (stored(), letters.num_skips()) == ({}, 1)


def test_what_was_made_by_hand_is_not_ours_because_of_its_number(
    letters, sample_id, studio, reconcile_now
):
    """It had got the number of a deleted one of ours, and our data was written over it."""
    number = studio.find(sample_id)
    del studio.tasks[number]
    assert studio.put(1, {"text": "hello"}) == number
    assert counts(reconcile_now()) == {"num_foreign": 1, "num_missing": 1}
    assert studio.tasks[number].data == {"text": "hello"}
    assert letters.tasks()[sample_id][0] == "refused"


def test_a_change_that_a_clock_which_was_set_back_hides_is_read(
    sample_id, studio, says, pull_now, reconcile_now
):
    says(sample_id, "a")
    pull_now()
    studio._ticks -= 3600
    says(sample_id, "b", by="bob")
    assert pull_now() == PullResult()
    assert reconcile_now().read == PullResult(num_annotations=1)
    assert reconcile_now() == NOTHING


def test_an_answer_that_was_changed_by_a_clock_which_was_set_back_is_read(
    sample_id, studio, says, pull_now, reconcile_now, stored
):
    """It stayed as it was in the ledger for ever, since it seemed to be older."""
    says(sample_id, "a")
    pull_now()
    studio._ticks -= 3600
    says(sample_id, "b")
    assert pull_now() == PullResult()
    assert reconcile_now().read == PullResult(num_annotations=1)
    assert stored()["ann"].answer == "b"
    assert (pull_now(), reconcile_now()) == (PullResult(), NOTHING)


def test_a_deletion_that_no_pull_saw_is_read(sample_id, studio, says, pull_now, reconcile_now):
    says(sample_id, "a")
    pull_now()
    studio._ticks -= 3600
    studio.remove(sample_id, by="ann")
    assert pull_now() == PullResult()
    assert reconcile_now().read == PullResult(num_deleted=1)


@pytest.mark.parametrize("answered", [False, True])
def test_what_a_killed_run_had_sent_is_found_by_the_next(
    letters, studio, says, reconcile_now, send_now, answered
):
    """A reconciliation noted it as sent, and only one annotator was asked instead of two."""
    (sample_id,) = letters.choose(b"x1")
    studio.breaks_after["push"] = KeyboardInterrupt()
    with pytest.raises(KeyboardInterrupt):
        send_now()
    if answered:
        says(sample_id, "a")
    found = reconcile_now()
    assert counts(found) == {"num_unnoted": 1}
    assert found.read == PullResult(num_annotations=int(answered))
    assert letters.tasks()[sample_id] == ("waiting", None, "")
    assert (send_now().num_sent, len(studio.tasks)) == (1, 1)
    assert reconcile_now() == NOTHING
    state = "done" if answered else "sent"
    assert letters.tasks()[sample_id] == (state, studio.find(sample_id), "")
    assert letters.rows()[sample_id].data == studio.tasks[studio.find(sample_id)].data


def test_what_a_killed_run_was_withdrawing_was_not_deleted_by_an_annotator(
    letters, sample_id, studio, reconcile_now, now
):
    studio.breaks_after["delete"] = KeyboardInterrupt()
    with pytest.raises(KeyboardInterrupt):
        order_queue(letters.ledger, studio, {sample_id: 0.0}, 7.0, now)
    assert reconcile_now() == NOTHING
    assert letters.tasks()[sample_id][0] == "withdrawn"
    assert letters.num_skips() == 0


def test_a_labeling_task_under_another_number_is_the_same_one(
    letters, sample_id, studio, reconcile_now
):
    number = studio.find(sample_id)
    studio.tasks[number + 7] = studio.tasks.pop(number)
    assert reconcile_now() == NOTHING
    assert letters.tasks()[sample_id][:2] == ("sent", number + 7)


def test_a_server_that_goes_away_in_the_middle_loses_nothing(
    letters, sample_id, studio, reconcile_now
):
    studio.copy(sample_id)
    studio.breaks_after["delete"] = LOST
    with pytest.raises(UnavailableError):
        reconcile_now()
    assert letters.tasks()[sample_id][0] == "sent"
    assert reconcile_now() == NOTHING


def test_while_another_process_sends_a_reconciliation_is_refused(
    letters, sample_id, reconcile_now, now, monkeypatch
):
    with hold(letters.ledger, "the labeling backend", lambda: now):
        monkeypatch.setattr("flywheel.ledger.locks._me", lambda: "elsewhere:1:1.0")
        with pytest.raises(BusyError):
            reconcile_now()


def test_times_of_the_server_need_not_be_ours(sample_id, studio, says, pull_now, reconcile_now):
    """Its clock goes a year wrong; only its own times are compared with each other."""
    studio._ticks += timedelta(days=365).days * 86400
    says(sample_id, "a")
    assert pull_now() == PullResult(num_annotations=1)
    assert reconcile_now() == NOTHING
