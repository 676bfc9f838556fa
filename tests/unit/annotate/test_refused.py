"""An annotation that is no answer is asked again, counted, and after three its sample is set aside."""

import dataclasses

import pytest
from sqlalchemy import select

from flywheel.annotate import PullResult, make_labels, pull, reconcile
from flywheel.ledger.annotations import newest_labels
from flywheel.ledger.failures import failures_of
from flywheel.ledger.progress import count_refused
from flywheel.ledger.requests import answers_open
from flywheel.ledger.reviews import how_asked
from flywheel.ledger.tables import requests, skips
from flywheel.records import FailureState, Purpose

NO_ANSWERS = [[], [{"value": {"choices": ["a", "b"]}}]]


@pytest.fixture
def counted(letters):
    """Annotations refused, asked again, samples set aside."""

    def count():
        with letters.ledger.read() as connection:
            return tuple(count_refused(connection))

    return count


@pytest.fixture
def label_of(letters, now):
    """The current answer of a sample after the consensus looked."""

    def read(sample_id):
        make_labels(letters.ledger, letters.task, letters.project, now, 4)
        with letters.ledger.read() as connection:
            found = newest_labels(connection, [sample_id])
        return found[sample_id].answer if sample_id in found else None

    return read


@pytest.mark.parametrize("result", NO_ANSWERS)
def test_another_annotator_is_asked_at_once_and_the_answer_labels(
    result, letters, sample_id, studio, says, pull_now, counted, label_of
):
    """It was refused once and forgotten: the labeling task was done, the failure queued for ever."""
    studio.answer(sample_id, *result)
    assert pull_now() == PullResult(num_refused=1)
    with letters.ledger.read() as connection:
        reason = connection.execute(select(skips.c.reason)).scalar_one()
    assert ("choose one" in reason) if result else ("Labeling(empty_is_answer=True)" in reason)
    assert studio.tasks[studio.find(sample_id)].num_annotators == 2
    assert (letters.tasks()[sample_id][0], counted()) == ("sent", (1, 1, 0))
    assert pull_now() == PullResult()  # asked once, however often it is read
    says(sample_id, "b", by="bob")
    assert pull_now() == PullResult(num_annotations=1)
    assert (letters.tasks()[sample_id][0], label_of(sample_id)) == ("done", "b")


def test_the_third_sets_the_sample_aside_with_its_reason(
    letters, sample_id, studio, pull_now, counted
):
    for by in ("ann", "bob", "cid"):
        studio.answer(sample_id, *NO_ANSWERS[1], by=by)
        pull_now()
    state, *_ = letters.tasks()[sample_id]
    assert (state, counted()) == ("refused", (3, 2, 1))
    with letters.ledger.read() as connection:
        assert answers_open(connection) == {}
        known = failures_of(connection, [sample_id])
    assert all(failure.state is FailureState.SEEN for failure in known.values())


def test_a_sample_that_was_set_aside_takes_an_answer_that_comes_later(
    sample_id, studio, says, pull_now, label_of
):
    for by in ("ann", "bob", "cid"):
        studio.answer(sample_id, by=by)
    pull_now()
    says(sample_id, "c", by="cid")
    pull_now()
    assert label_of(sample_id) == "c"


def test_what_is_asked_in_place_of_a_refused_one_leaves_room_for_a_second_opinion(
    letters, sample_id, studio, pull_now
):
    studio.answer(sample_id)
    pull_now()
    with letters.ledger.read() as connection:
        assert how_asked(connection, [sample_id])[sample_id].num_annotators == 1
        assert answers_open(connection) == {Purpose.CHOICE: 1}


def test_a_fault_of_the_task_asks_nobody_and_is_read_again_once_it_is_corrected(
    letters, sample_id, studio, says, now, counted, label_of
):
    """What annotators were paid for came back only if they submitted it anew."""

    def fails(_result, _sample):
        raise KeyError("choices")

    labeling = dataclasses.replace(letters.task.labeling, answer=fails)
    broken = dataclasses.replace(letters.task, labeling=labeling)
    says(sample_id, "b")
    assert pull(letters.ledger, letters.blobs, studio, broken, now).num_refused == 1
    with letters.ledger.read() as connection:
        assert connection.execute(select(requests)).all() == []
    read = reconcile(letters.ledger, letters.blobs, studio, letters.task, now).read
    assert (read, counted()) == (PullResult(num_annotations=1), (0, 0, 0))
    assert label_of(sample_id) == "b"


def test_an_empty_result_is_an_answer_where_the_task_says_so(
    letters, sample_id, studio, now, label_of
):
    labeling = dataclasses.replace(
        letters.task.labeling, answer=lambda result, _sample: list(result), empty_is_answer=True
    )
    task = dataclasses.replace(letters.task, labeling=labeling)
    studio.answer(sample_id)
    assert pull(letters.ledger, letters.blobs, studio, task, now) == PullResult(num_annotations=1)
    assert label_of(sample_id) == []
