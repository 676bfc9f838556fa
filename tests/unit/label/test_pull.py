import dataclasses

import pytest
from sqlalchemy import select

from flywheel.errors import PayloadError, TaskError, UnavailableError
from flywheel.label import PullResult, pull
from flywheel.ledger.payloads import move_payloads
from flywheel.ledger.tables import annotations


@pytest.fixture
def stored(letters):
    """All annotations in the ledger, by annotator."""

    def read():
        with letters.ledger.read() as connection:
            return {row.annotator: row for row in connection.execute(select(annotations))}

    return read


@pytest.fixture
def lose(letters, tmp_path):
    """Lose a sample's payload."""

    def run(sample_id):
        move_payloads(letters.ledger, letters.blobs)
        (tmp_path / "blobs" / sample_id[:2] / sample_id).unlink()

    return run


@pytest.fixture
def sample_id(letters, send_now):
    """A sample that is with people."""
    (sample_id,) = letters.choose(b"x1")
    send_now()
    return sample_id


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
    old = dict(studio.tasks)
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
    kept = dict(studio.tasks)
    pull_now()
    studio.remove(sample_id, by="ann")
    pull_now()
    studio.tasks = {
        key: dataclasses.replace(task, updated_at=studio._tick()) for key, task in kept.items()
    }
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
def test_an_answer_that_cannot_be_stored_is_set_aside(
    answer, letters, sample_id, studio, says, now
):
    labeling = dataclasses.replace(letters.task.labeling, answer=lambda *_: answer)
    task = dataclasses.replace(letters.task, labeling=labeling)
    says(sample_id, "a")
    pulled = pull(letters.ledger, letters.blobs, studio, task, letters.project, now)
    assert pulled == PullResult(num_refused=1)


def test_an_annotation_is_read_with_the_sample_that_it_is_about(
    letters, sample_id, studio, says, now
):
    read = letters.task.labeling.answer
    seen = []
    labeling = dataclasses.replace(
        letters.task.labeling,
        answer=lambda result, sample: seen.append(sample) or read(result, sample),
    )
    task = dataclasses.replace(letters.task, labeling=labeling)
    letters.choose(b"x2")  # not with people: its payload is nobody's business
    says(sample_id, "b")
    pull(letters.ledger, letters.blobs, studio, task, letters.project, now)
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


def test_a_skip_needs_no_sample(sample_id, studio, pull_now, lose):
    lose(sample_id)
    studio.answer(sample_id, skip=True)
    assert pull_now() == PullResult(num_skipped=1)


@pytest.mark.parametrize("error", [PayloadError, TaskError])
def test_an_answer_that_does_not_fit_its_sample_is_set_aside(
    error, letters, sample_id, studio, says, now
):
    def answer(_result, sample):
        raise error(f"sample {sample.id[:12]} has no camera")

    labeling = dataclasses.replace(letters.task.labeling, answer=answer)
    task = dataclasses.replace(letters.task, labeling=labeling)
    says(sample_id, "a")
    pulled = pull(letters.ledger, letters.blobs, studio, task, letters.project, now)
    assert (pulled, letters.num_skips()) == (PullResult(num_refused=1), 1)


def test_a_mended_annotation_is_an_answer_again(sample_id, says, pull_now, stored):
    says(sample_id, "unusable")
    pull_now()
    says(sample_id, "a")
    assert pull_now() == PullResult(num_annotations=1)
    assert (stored()["ann"].answer, stored()["ann"].refused) == ("a", None)


def test_what_we_did_not_send_is_reported_and_ignored(sample_id, studio, says, pull_now, stored):
    studio.put("f" * 64)
    studio.put(None)
    says("f" * 64, "a")
    assert pull_now() == PullResult(num_unknown=1)
    assert stored() == {}


def test_a_copy_of_our_labeling_task_does_not_speak_for_it(sample_id, studio, says, pull_now):
    says(sample_id, "a")
    original, copy = min(studio.tasks), studio.put(sample_id)
    studio.tasks[copy] = dataclasses.replace(
        studio.tasks[original], external_id=copy, annotations=()
    )
    assert pull_now() == PullResult(num_annotations=1)


def test_a_finished_labeling_task_is_done_and_may_open_again(
    letters, sample_id, studio, says, pull_now
):
    says(sample_id, "a")
    pull_now()
    assert letters.tasks()[sample_id][0] == "done"
    studio.remove(sample_id, by="ann")
    pull_now()
    assert letters.tasks()[sample_id][0] == "sent"


def test_a_deleted_open_labeling_task_is_set_aside_and_not_sent_again(
    letters, sample_id, studio, pull_now, send_now
):
    studio.tasks.clear()
    assert pull_now() == PullResult(num_lost=1)
    assert letters.tasks()[sample_id][0] == "refused"
    assert (send_now().num_sent, len(studio.tasks), letters.num_skips()) == (0, 0, 1)


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
    studio.loses_answers = True
    with pytest.raises(UnavailableError):
        send_now()
    says(late, "c")
    assert pull_now() == PullResult(num_annotations=1)
    assert stored()["ann"].sample_id == late
    assert letters.tasks()[late][:2] == ("done", studio.find(7, [late])[late])


def test_a_pull_that_breaks_off_is_made_up_for_by_the_next(sample_id, studio, says, pull_now):
    says(sample_id, "a")
    studio.is_down = True
    with pytest.raises(UnavailableError):
        pull_now()
    studio.is_down = False
    assert pull_now() == PullResult(num_annotations=1)
