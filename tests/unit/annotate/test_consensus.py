import dataclasses

import pytest

from flywheel.annotate import make_labels
from flywheel.annotate.labels import LabelResult
from flywheel.ledger.annotations import annotations_of, newest_labels, unsettled_samples
from flywheel.ledger.annotators import read_annotators
from flywheel.ledger.datasets import add_labels
from flywheel.ledger.failures import count_failures
from flywheel.records import FailureState, Label, Purpose

NOTHING = LabelResult(num_labels=0, num_withdrawn=0, num_disputed=0)


@pytest.fixture
def two_of_three(letters):
    """Three annotators are asked, and two must agree."""
    letters.change(labeling={"annotations_per_sample": 3, "agreement": 2})


@pytest.fixture
def experienced(letters, says, send_now, label_now, now):
    """(annotator, right, wrong) -> they answered so many gold samples right and wrong."""

    def run(person: str, right: int = 0, wrong: int = 0) -> None:
        payloads = [f"gold {person} {number}".encode() for number in range(right + wrong)]
        ids = letters.choose(*payloads)
        known = [_label(sample_id, "a", "start") for sample_id in ids]
        with letters.ledger.begin() as connection:
            add_labels(connection, known, now)
        letters.ask(ids, Purpose.GOLD)
        send_now()
        for number, sample_id in enumerate(ids):
            gold = letters.rows(Purpose.GOLD)[sample_id].external_id
            says(gold, "a" if number < right else "b", by=person)
        label_now()

    return run


def _label(sample_id, answer, source):
    return Label(
        sample_id=sample_id, answer=answer, reliability=1.0, num_annotations=0, source=source
    )


@pytest.fixture
def newest(letters):
    """sample id -> its newest label."""

    def read(sample_id):
        with letters.ledger.read() as connection:
            return newest_labels(connection, [sample_id])[sample_id]

    return read


def test_a_label_is_made_when_enough_annotators_agree(
    letters, sample_id, says, label_now, two_of_three
):
    says(sample_id, "b", by="ann")
    assert label_now() == NOTHING
    says(sample_id, "b", by="bob")
    assert label_now() == LabelResult(num_labels=1, num_withdrawn=0, num_disputed=0)
    assert letters.labels(sample_id) == ["b"]


def test_a_label_is_as_reliable_as_it_is_likely_to_be_right(sample_id, says, label_now, newest):
    """It was the share of the annotators that agreed: 1 of a lone answer."""
    says(sample_id, "b", by="ann")
    label_now()
    alone = newest(sample_id)
    says(sample_id, "b", by="bob")
    label_now()
    both = newest(sample_id)
    assert 0.5 < alone.reliability < 0.9 < both.reliability < 1.0
    assert (alone.num_annotations, both.num_annotations) == (1, 2)


def test_a_label_that_stays_the_same_is_not_written_again(letters, sample_id, says, label_now):
    for _ in range(3):
        says(sample_id, "b")
        label_now()
    assert letters.labels(sample_id) == ["b"]


def test_a_label_is_withdrawn_when_annotators_no_longer_agree(
    letters, sample_id, says, label_now, two_of_three
):
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
    label_now()
    studio.remove(sample_id, by="ann")
    assert label_now().num_withdrawn == 1
    assert letters.labels(sample_id) == ["b", None]


def test_annotators_who_all_disagree_are_reported(sample_id, says, label_now, two_of_three):
    for person, letter in (("ann", "a"), ("bob", "b"), ("cleo", "c")):
        says(sample_id, letter, by=person)
    assert label_now() == LabelResult(num_labels=0, num_withdrawn=0, num_disputed=1)


def test_skips_and_refused_annotations_do_not_vote(letters, sample_id, studio, says, label_now):
    studio.answer(sample_id, by="ann", skip=True)
    says(sample_id, "unusable", by="bob")
    says(sample_id, "a", by="cleo")
    label_now()
    assert letters.labels(sample_id) == ["a"]


def test_the_task_says_who_agrees_and_what_stands_for_them(
    letters, sample_id, says, label_now, two_of_three
):
    letters.task = dataclasses.replace(
        letters.task, agree=lambda one, other: abs(ord(one) - ord(other)) < 2, merge="".join
    )
    for person, letter in (("ann", "c"), ("bob", "b"), ("cleo", "c")):
        says(sample_id, letter, by=person)
    label_now()
    assert letters.labels(sample_id) == ["cbc"]


def test_of_several_answers_of_one_annotator_the_newest_counts_alone(
    letters, sample_id, studio, says, label_now, two_of_three
):
    """Two labeling tasks of one sample let the same annotator agree with themselves."""
    says(sample_id, "b", by="ann")
    says(studio.copy(sample_id), "b", by="ann")
    assert label_now() == NOTHING
    assert letters.labels(sample_id) == []


@pytest.fixture
def sensed(letters, sample_id, now):
    """The sample has a sensor's label."""
    with letters.ledger.begin() as connection:
        add_labels(connection, [_label(sample_id, "b", "sensor")], now)


def test_annotators_who_do_not_agree_yet_leave_a_sensors_label(
    letters, sample_id, sensed, says, label_now, two_of_three
):
    says(sample_id, "b")
    assert label_now().num_withdrawn == 0
    assert letters.labels(sample_id) == ["b"]


def test_annotators_replace_a_sensors_label_even_by_the_same_answer(
    sample_id, sensed, says, label_now, newest
):
    """It would have stayed a sensor's, which only trains."""
    says(sample_id, "b")
    assert label_now().num_labels == 1
    assert newest(sample_id).source == "annotators"


def test_a_failure_with_a_label_moves_on(letters, sample_id, says, label_now):
    says(sample_id, "b")
    label_now()
    with letters.ledger.read() as connection:
        assert count_failures(connection)[FailureState.LABELED] == 1


def test_what_has_been_settled_is_not_looked_at_again(letters, sample_id, says, pull_now, now):
    says(sample_id, "b")
    pull_now()
    with letters.ledger.read() as connection:
        assert unsettled_samples(connection) == {sample_id: True}
    make_labels(letters.ledger, letters.task, letters.project, now, 4)
    with letters.ledger.read() as connection:
        assert unsettled_samples(connection) == {}
        assert [one.answer for one in annotations_of(connection, [sample_id])] == ["b"]


def test_a_kill_before_labeling_loses_no_label(letters, sample_id, says, pull_now, label_now):
    says(sample_id, "b")
    pull_now()
    pull_now()
    assert label_now().num_labels == 1


def test_the_answer_of_a_known_guesser_is_no_label(
    letters, sample_id, says, label_now, experienced
):
    experienced("spammer", wrong=8)
    experienced("bob", right=8)
    says(sample_id, "b", by="spammer")
    assert (label_now().num_labels, letters.labels(sample_id)) == (0, [])
    says(sample_id, "c", by="bob")
    assert (label_now().num_labels, letters.labels(sample_id)) == (1, ["c"])


def test_a_label_is_withdrawn_when_the_one_who_gave_it_turns_out_to_guess(
    letters, sample_id, says, label_now, experienced
):
    """The sample itself did not change."""
    says(sample_id, "b", by="spammer")
    label_now()
    experienced("spammer", wrong=8)
    assert letters.labels(sample_id) == ["b", None]


def test_of_two_against_one_the_more_reliable_win(
    letters, sample_id, says, label_now, experienced, newest
):
    experienced("ann", right=20)
    for person in ("bob", "cleo"):
        experienced(person, right=8, wrong=12)
    for person, letter in (("ann", "c"), ("bob", "b"), ("cleo", "b")):
        says(sample_id, letter, by=person)
    label_now()
    assert letters.labels(sample_id) == ["c"]
    assert 0.5 < newest(sample_id).reliability < 1.0


def test_of_two_against_one_who_are_alike_the_two_win(letters, sample_id, says, label_now):
    for person, letter in (("ann", "c"), ("bob", "b"), ("cleo", "b")):
        says(sample_id, letter, by=person)
    label_now()
    assert letters.labels(sample_id) == ["b"]


def test_an_expert_alone_is_enough(letters, sample_id, says, label_now):
    rules = {"annotations_per_sample": 3, "agreement": 2}
    letters.change(labeling=rules, annotators={"domain_experts": ["eva"]})
    says(sample_id, "b", by="eva")
    assert label_now().num_labels == 1
    assert letters.labels(sample_id) == ["b"]


def test_an_expert_who_guesses_is_not(letters, sample_id, says, label_now, experienced):
    letters.change(annotators={"deep_experts": ["eva"]})
    experienced("eva", wrong=8)
    says(sample_id, "b", by="eva")
    assert label_now().num_labels == 0


def test_less_likely_than_the_settings_ask_for_is_no_label(letters, sample_id, says, label_now):
    letters.change(labeling={"min_reliability": 0.9})
    says(sample_id, "b", by="ann")
    assert (label_now().num_labels, letters.labels(sample_id)) == (0, [])
    says(sample_id, "b", by="bob")
    assert (label_now().num_labels, letters.labels(sample_id)) == (1, ["b"])


@pytest.mark.parametrize("purpose", [Purpose.GOLD, Purpose.REVIEW])
def test_the_start_datas_label_is_never_changed_by_annotators(
    purpose, letters, sample_id, says, send_now, label_now, now
):
    with letters.ledger.begin() as connection:
        add_labels(connection, [_label(sample_id, "a", "start")], now)
    letters.ask([sample_id], purpose, num_annotators=3)
    send_now()
    there = letters.rows(purpose)[sample_id].external_id
    for person in ("ann", "bob", "cleo"):
        says(there, "b", by=person)
    assert label_now() == NOTHING
    assert letters.labels(sample_id) == ["a"]


def test_gold_answers_never_change_a_label(letters, sample_id, says, send_now, label_now, newest):
    for person in ("ann", "bob"):
        says(sample_id, "b", by=person)
    label_now()
    before = newest(sample_id)
    letters.ask([sample_id], Purpose.GOLD, num_annotators=3)
    send_now()
    gold = letters.rows(Purpose.GOLD)[sample_id].external_id
    for person in ("cleo", "dan", "eva"):
        says(gold, "c", by=person)
        assert label_now() == NOTHING
    assert (newest(sample_id), letters.labels(sample_id)) == (before, ["b"])


def test_gold_answers_measure_annotators_all_the_same(letters, experienced):
    experienced("ann", right=5, wrong=1)
    with letters.ledger.read() as connection:
        (measured,) = read_annotators(connection)
    assert (measured.annotator, measured.num_answers, measured.num_gold) == ("ann", 6, 6)
    assert measured.low < measured.reliability < measured.high


def test_labels_of_untouched_samples_change_only_when_their_answer_does(
    letters, sample_id, says, label_now, experienced, newest
):
    """Each night would have written every label anew: what is known of annotators always moves."""
    says(sample_id, "b", by="ann")
    label_now()
    before = newest(sample_id)
    experienced("ann", right=8)
    assert (newest(sample_id), letters.labels(sample_id)) == (before, ["b"])


def test_an_untouched_sample_gets_its_label_once_its_annotators_are_known_better(
    letters, sample_id, says, label_now, experienced
):
    letters.change(labeling={"min_reliability": 0.8})
    says(sample_id, "b", by="ann")
    assert label_now().num_labels == 0
    experienced("ann", right=20)
    assert letters.labels(sample_id) == ["b"]


def test_what_lies_before_the_window_keeps_its_label(
    letters, sample_id, says, label_now, experienced, monkeypatch
):
    says(sample_id, "b", by="spammer")
    label_now()
    monkeypatch.setattr("flywheel.annotate.evidence._WINDOW", 8)
    experienced("spammer", wrong=8)
    assert letters.labels(sample_id) == ["b"]


def test_a_sample_from_before_the_window_that_changes_is_weighed_with_all_its_answers(
    letters, sample_id, says, label_now, experienced, monkeypatch
):
    for person in ("ann", "bob"):
        says(sample_id, "b", by=person)
    label_now()
    monkeypatch.setattr("flywheel.annotate.evidence._WINDOW", 1)
    experienced("dan", right=2)
    says(sample_id, "c", by="cleo")
    label_now()
    assert set(letters.labels(sample_id)) == {"b"}
