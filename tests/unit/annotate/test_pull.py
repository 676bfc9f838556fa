import dataclasses
from copy import deepcopy

import pytest

from flywheel.annotate import PullResult, pull
from flywheel.annotate.backend import BACKEND_LOCK
from flywheel.errors import PayloadError, TaskError, UnavailableError
from flywheel.ledger.locks import hold
from flywheel.ledger.outbox import withdraw
from flywheel.records import Purpose


@pytest.fixture
def pull_with(letters, studio, now):
    """Pull with another way to read annotations."""

    def run(answer):
        labeling = dataclasses.replace(letters.task.labeling, answer=answer)
        task = dataclasses.replace(letters.task, labeling=labeling)
        return pull(letters.ledger, letters.blobs, studio, task, now)

    return run


def test_an_annotation_comes_back_once(sample_id, says, pull_now, stored):
    says(sample_id, "b")
    assert pull_now() == PullResult(num_annotations=1)
    assert pull_now() == PullResult()
    row = stored()["ann"]
    assert (row.sample_id, row.answer, row.lead_time_seconds) == (sample_id, "b", 3.0)


def test_nothing_sent_is_nothing_pulled(studio, pull_now):
    studio.is_down = True
    assert pull_now() == PullResult()


def test_a_changed_answer_replaces_the_earlier_one(sample_id, says, pull_now, stored):
    says(sample_id, "b")
    pull_now()
    says(sample_id, "c")
    assert pull_now() == PullResult(num_annotations=1)
    assert stored()["ann"].answer == "c"


def test_an_older_state_never_overwrites_a_newer_one(sample_id, studio, says, pull_now, stored):
    says(sample_id, "b")
    old = deepcopy(studio.tasks)
    says(sample_id, "c")
    pull_now()
    studio.tasks = old
    pull_now()
    assert stored()["ann"].answer == "c"


def test_a_deleted_annotation_is_marked_and_kept(sample_id, studio, says, pull_now, stored, now):
    says(sample_id, "b", by="ann")
    says(sample_id, "b", by="bob")
    pull_now()
    studio.remove(sample_id, by="ann")
    assert pull_now() == PullResult(num_deleted=1)
    assert stored()["ann"].deleted_at == now
    assert stored()["bob"].deleted_at is None


def test_an_annotation_that_is_back_counts_again(sample_id, studio, says, pull_now, stored):
    says(sample_id, "b")
    kept = deepcopy(studio.tasks)
    pull_now()
    studio.remove(sample_id, by="ann")
    pull_now()
    studio.tasks = kept
    studio.edit(sample_id)
    assert pull_now() == PullResult(num_annotations=1)
    assert stored()["ann"].deleted_at is None


def test_a_skip_is_kept_without_an_answer(sample_id, studio, pull_now, stored):
    studio.answer(sample_id, skip=True)
    assert pull_now() == PullResult(num_skipped=1)
    row = stored()["ann"]
    assert (row.skipped, row.answer, row.refused) == (True, None, None)


def test_an_annotation_that_is_no_answer_is_set_aside(letters, sample_id, says, pull_now, stored):
    says(sample_id, "unusable")
    assert pull_now() == PullResult(num_refused=1)
    assert pull_now() == PullResult()
    assert (stored()["ann"].answer, letters.num_skips()) == (None, 1)
    assert "is no letter" in stored()["ann"].refused


@pytest.mark.parametrize("region", [{}, {"value": None}, {"value": {"choices": 3}}, "text"])
def test_whatever_an_annotation_holds_pulling_goes_on(
    region, letters, sample_id, studio, pull_now, stored
):
    studio.answer(sample_id, region)
    assert pull_now() == PullResult(num_refused=1)
    assert stored()["ann"].refused


@pytest.mark.parametrize("answer", [float("nan"), None, object()])
def test_an_answer_that_cannot_be_stored_is_set_aside(answer, sample_id, says, pull_with):
    says(sample_id, "a")
    assert pull_with(lambda *_: answer) == PullResult(num_refused=1)


def test_an_annotation_is_read_with_the_sample_that_it_is_about(
    letters, sample_id, says, pull_with
):
    read = letters.task.labeling.answer
    seen = []
    letters.choose(b"x2")  # not with people: its payload is not read
    says(sample_id, "b")
    pull_with(lambda result, sample: seen.append(sample) or read(result, sample))
    assert seen == letters.samples([sample_id])


def test_a_sample_that_is_gone_refuses_its_annotation_and_no_other(
    letters, send_now, says, pull_now, stored, lose
):
    gone, there = letters.choose(b"x1", b"x2")
    send_now()
    lose(gone)
    says(gone, "a", by="ann")
    says(there, "b", by="bob")
    assert pull_now() == PullResult(num_annotations=1, num_refused=1)
    assert stored()["ann"].refused.startswith("its sample cannot be loaded: no blob")
    assert (stored()["bob"].answer, letters.num_skips()) == ("b", 1)


def test_blobs_that_do_not_answer_refuse_no_annotation_and_the_next_pull_has_it(
    sample_id, says, pull_now, stored, silence
):
    says(sample_id, "b")
    end = silence()
    with pytest.raises(UnavailableError, match="blob store"):
        pull_now()
    assert stored() == {}
    end()
    assert pull_now() == PullResult(num_annotations=1)
    assert stored()["ann"].answer == "b"


def test_a_skip_needs_no_sample(sample_id, studio, pull_now, lose):
    lose(sample_id)
    studio.answer(sample_id, skip=True)
    assert pull_now() == PullResult(num_skipped=1)


@pytest.mark.parametrize("error", [PayloadError, TaskError])
def test_an_answer_that_does_not_fit_its_sample_is_set_aside(
    error, letters, sample_id, says, pull_with
):
    def answer(_result, sample):
        raise error(f"sample {sample.id[:12]} has no camera")

    says(sample_id, "a")
    assert (pull_with(answer), letters.num_skips()) == (PullResult(num_refused=1), 1)


def test_what_is_withdrawn_while_a_pull_reads_it_stays_so(letters, sample_id, says, pull_with, now):
    """The pull, which holds no lock, wrote that it was with annotators."""

    def answer(_result, _sample):
        with letters.ledger.begin() as connection:
            withdraw(connection, [sample_id], "it no longer matters", now)
        return "a"

    says(sample_id, "a")
    assert pull_with(answer) == PullResult(num_annotations=1)
    assert letters.tasks()[sample_id][0] == "withdrawn"


def test_a_corrected_annotation_is_an_answer_again(sample_id, says, pull_now, stored):
    says(sample_id, "unusable")
    pull_now()
    says(sample_id, "a")
    assert pull_now() == PullResult(num_annotations=1)
    assert (stored()["ann"].answer, stored()["ann"].refused) == ("a", None)


def test_what_we_did_not_send_is_reported_and_ignored(sample_id, studio, says, pull_now, stored):
    others = [studio.put(1, {"sample_id": "f" * 64}), studio.put(1, {"text": "hello"})]
    for number in others:
        says(number, "a")
    assert pull_now() == PullResult(num_unknown=2)
    assert stored() == {}


def test_a_copy_of_our_labeling_task_does_not_speak_for_it(
    letters, sample_id, studio, says, pull_now
):
    says(sample_id, "a")
    studio.copy(sample_id)
    assert pull_now() == PullResult(num_annotations=1)
    assert letters.tasks()[sample_id][0] == "done"


def test_of_two_labeling_tasks_the_answers_of_both_count(sample_id, studio, says, pull_now, stored):
    says(sample_id, "a", by="ann")
    copy = studio.copy(sample_id)
    says(copy, "b", by="bob")
    assert pull_now() == PullResult(num_annotations=2)
    studio.remove(copy, by="bob")
    assert pull_now() == PullResult(num_deleted=1)
    assert (stored()["ann"].deleted_at, stored()["ann"].answer) == (None, "a")


def test_a_finished_labeling_task_is_done_and_may_open_again(
    letters, sample_id, studio, says, pull_now
):
    says(sample_id, "a")
    pull_now()
    assert letters.tasks()[sample_id][0] == "done"
    studio.remove(sample_id, by="ann")
    pull_now()
    assert letters.tasks()[sample_id][0] == "sent"


def test_a_labeling_task_is_done_when_as_many_annotators_answered_as_were_asked(
    letters, studio, says, send_now, pull_now
):
    (sample_id,) = letters.choose(b"x1", num_annotators=2)
    send_now()
    states = []
    for person in ("ann", "bob"):
        says(sample_id, "a", by=person)
        pull_now()
        states.append(letters.tasks()[sample_id][0])
    assert states == ["sent", "done"]


def test_a_finished_labeling_task_that_is_deleted_keeps_its_annotations(
    letters, sample_id, studio, says, pull_now, stored
):
    says(sample_id, "a")
    pull_now()
    studio.tasks.clear()
    assert pull_now() == PullResult()
    assert letters.tasks()[sample_id][0] == "done"
    assert stored()["ann"].deleted_at is None


def test_work_on_what_a_killed_run_had_sent_is_not_lost(
    letters, sample_id, studio, says, pull_now, send_now, stored
):
    (late,) = letters.choose(b"x2")
    studio.breaks_after["push"] = UnavailableError("the answer got lost")
    with pytest.raises(UnavailableError):
        send_now()
    says(late, "c")
    assert pull_now() == PullResult(num_annotations=1)
    assert stored()["ann"].sample_id == late
    assert letters.tasks()[late][0] == "waiting"
    assert send_now().num_sent == 1
    assert pull_now() == PullResult()
    assert letters.tasks()[late][:2] == ("done", studio.find(late))


def test_a_pull_that_breaks_off_is_made_up_for_by_the_next(sample_id, studio, says, pull_now):
    says(sample_id, "a")
    studio.is_down = True
    with pytest.raises(UnavailableError):
        pull_now()
    studio.is_down = False
    assert pull_now() == PullResult(num_annotations=1)


def test_an_annotation_has_the_purpose_of_its_labeling_task(
    letters, sample_id, studio, says, send_now, pull_now, stored
):
    letters.ask([sample_id], Purpose.GOLD)
    send_now()
    gold = letters.rows(Purpose.GOLD)[sample_id].external_id
    says(sample_id, "a", by="ann")
    says(gold, "b", by="bob")
    assert pull_now() == PullResult(num_annotations=2)
    assert {name: row.purpose for name, row in stored().items()} == {"ann": "choice", "bob": "gold"}
    studio.remove(gold, by="bob")
    assert pull_now() == PullResult(num_deleted=1)
    assert stored()["ann"].deleted_at is None


def test_every_campaign_is_read(letters, studio, says, send_now, pull_now):
    letters.change(labeling={"campaign_samples": 10})
    ids = letters.choose(*(b"sample %d" % number for number in range(25)))
    send_now()
    assert len(studio.projects) == 3
    for sample_id in ids:
        says(sample_id, "a")
    assert pull_now() == PullResult(num_annotations=25)
    assert pull_now() == PullResult()


def test_what_was_open_in_a_deleted_project_waits_again_and_its_answers_stay(
    letters, studio, says, send_now, pull_now, stored
):
    answered, open_one = letters.choose(b"x1", b"x2")
    send_now()
    says(answered, "a")
    pull_now()
    studio.delete_project(1)
    assert pull_now() == PullResult(num_again=1)
    assert pull_now() == PullResult()
    assert letters.tasks()[answered][0] == "done"
    assert letters.tasks()[open_one][:2] == ("waiting", None)
    assert stored()["ann"].deleted_at is None
    assert letters.num_skips() == 1


def test_a_project_that_is_deleted_while_another_process_sends_is_left_to_them(
    letters, sample_id, studio, pull_now, now, monkeypatch
):
    """The samples were sent to a project of which the ledger knew no longer."""
    studio.delete_project(1)
    with hold(letters.ledger, BACKEND_LOCK, lambda: now), monkeypatch.context() as patch:
        patch.setattr("flywheel.ledger.locks._me", lambda: "elsewhere:1:1.0")
        assert pull_now() == PullResult()
    assert letters.tasks()[sample_id][0] == "sent"
    assert pull_now() == PullResult(num_again=1)


def test_an_answer_is_not_gone_because_its_number_is_that_of_another_purpose(
    letters, sample_id, studio, says, send_now, pull_now, stored
):
    """The gold one had none yet, and the number of the one that was deleted."""
    number = studio.find(sample_id)
    says(sample_id, "a")
    pull_now()
    del studio.tasks[number]
    letters.ask([sample_id], Purpose.GOLD)
    send_now()
    assert letters.rows(Purpose.GOLD)[sample_id].external_id == number
    assert pull_now() == PullResult()
    assert stored()["ann"].deleted_at is None


def test_what_was_moved_to_another_project_is_not_ours(
    letters, studio, says, send_now, pull_now, stored
):
    letters.change(labeling={"campaign_samples": 10})
    (first, *_) = letters.choose(*(b"sample %d" % number for number in range(12)))
    send_now()
    copy = studio.put(2, studio.tasks[studio.find(first)].data)
    says(copy, "a")
    assert (pull_now(), stored()) == (PullResult(num_unknown=1), {})
