import dataclasses

import pytest

from flywheel.label import LabelResult, make_labels
from flywheel.ledger.datasets import add_labels
from flywheel.ledger.failures import count_failures
from flywheel.ledger.labeling import annotations_of, newest_labels, unsettled_samples
from flywheel.records import FailureState, Label
from flywheel.settings.labeling import LabelingSettings

TWO_OF_THREE = LabelingSettings(annotations_per_sample=3, agreement=2)


@pytest.fixture
def sample_id(letters, send_now):
    (sample_id,) = letters.choose(b"x1")
    send_now()
    return sample_id


@pytest.fixture
def label_now(letters, pull_now, now):
    """Pull, then label."""

    def run(rules: LabelingSettings = TWO_OF_THREE) -> LabelResult:
        pull_now()
        return make_labels(letters.ledger, letters.task, rules, now, 4)

    return run


def test_a_label_is_made_when_enough_people_agree(letters, sample_id, says, label_now):
    says(sample_id, "b", by="ann")
    assert label_now() == LabelResult(num_labels=0, num_withdrawn=0, num_disputed=0)
    says(sample_id, "b", by="bob")
    assert label_now() == LabelResult(num_labels=1, num_withdrawn=0, num_disputed=0)
    assert letters.labels(sample_id) == ["b"]


def test_a_label_that_stays_the_same_is_not_written_again(letters, sample_id, says, label_now):
    for person in ("ann", "bob", "cleo"):
        says(sample_id, "b", by=person)
        label_now()
    assert letters.labels(sample_id) == ["b"]


def test_a_label_is_withdrawn_when_people_no_longer_agree(letters, sample_id, says, label_now):
    for person in ("ann", "bob"):
        says(sample_id, "b", by=person)
    label_now()
    says(sample_id, "c", by="bob")
    assert label_now().num_withdrawn == 1
    assert letters.labels(sample_id) == ["b", None]


def test_a_label_whose_annotations_vanished_is_withdrawn(
    letters, sample_id, studio, says, label_now
):
    says(sample_id, "b")
    label_now(LabelingSettings())
    studio.remove(sample_id, by="ann")
    assert label_now(LabelingSettings()).num_withdrawn == 1
    assert letters.labels(sample_id) == ["b", None]


def test_people_who_all_disagree_are_reported(sample_id, says, label_now):
    for person, letter in (("ann", "a"), ("bob", "b"), ("cleo", "c")):
        says(sample_id, letter, by=person)
    assert label_now() == LabelResult(num_labels=0, num_withdrawn=0, num_disputed=1)


def test_skips_and_refused_annotations_do_not_vote(letters, sample_id, studio, says, label_now):
    studio.answer(sample_id, by="ann", skip=True)
    says(sample_id, "unusable", by="bob")
    says(sample_id, "a", by="cleo")
    label_now(LabelingSettings())
    assert letters.labels(sample_id) == ["a"]


def test_the_task_says_who_agrees_and_what_stands_for_them(letters, sample_id, says, pull_now, now):
    near = dataclasses.replace(
        letters.task, agree=lambda one, other: abs(ord(one) - ord(other)) < 2, merge="".join
    )
    for person, letter in (("ann", "c"), ("bob", "b"), ("cleo", "c")):
        says(sample_id, letter, by=person)
    pull_now()
    make_labels(letters.ledger, near, TWO_OF_THREE, now, 4)
    assert letters.labels(sample_id) == ["cbc"]


@pytest.fixture
def sensed(letters, sample_id, now):
    """The sample has a sensor's label."""
    label = Label(
        sample_id=sample_id, answer="b", reliability=1.0, num_annotations=0, source="sensor"
    )
    with letters.ledger.begin() as connection:
        add_labels(connection, [label], now)


def test_people_who_do_not_agree_yet_leave_a_sensors_label(
    letters, sample_id, sensed, says, label_now
):
    says(sample_id, "b")
    assert label_now().num_withdrawn == 0
    assert letters.labels(sample_id) == ["b"]


def test_people_replace_a_sensors_label_even_by_the_same_answer(
    letters, sample_id, sensed, says, label_now
):
    """It would have stayed a sensor's, which only trains."""
    says(sample_id, "b")
    assert label_now(LabelingSettings()).num_labels == 1
    with letters.ledger.read() as connection:
        assert newest_labels(connection, [sample_id])[sample_id].source == "annotators"


def test_a_failure_with_a_label_moves_on(letters, sample_id, says, label_now):
    says(sample_id, "b")
    label_now(LabelingSettings())
    with letters.ledger.read() as connection:
        assert count_failures(connection)[FailureState.LABELED] == 1


def test_what_has_been_settled_is_not_looked_at_again(letters, sample_id, says, pull_now, now):
    says(sample_id, "b")
    pull_now()
    with letters.ledger.read() as connection:
        assert unsettled_samples(connection) == [sample_id]
    make_labels(letters.ledger, letters.task, LabelingSettings(), now, 4)
    with letters.ledger.read() as connection:
        assert unsettled_samples(connection) == []
        assert [one.answer for one in annotations_of(connection, [sample_id])] == ["b"]


def test_a_kill_before_labeling_loses_no_label(letters, sample_id, says, pull_now, now):
    says(sample_id, "b")
    pull_now()
    pull_now()
    assert make_labels(letters.ledger, letters.task, LabelingSettings(), now, 4).num_labels == 1
