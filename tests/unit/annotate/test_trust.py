"""Labels that rest on the word of one annotator, of whom gold questions say nothing yet."""

import pytest

from flywheel.annotate import words
from flywheel.annotate.labels import is_measured
from flywheel.ledger.datasets import add_labels
from flywheel.records import Label, Purpose, Word


@pytest.mark.parametrize(
    ("right", "asked", "expected"),
    [(0, 0, False), (3, 3, False), (4, 4, True), (5, 6, False), (7, 8, True), (0, 9, False)],
)
def test_gold_answers_measure_when_most_are_right_beyond_chance(right, asked, expected):
    assert is_measured(right, asked) == expected


@pytest.fixture
def on_trust(letters):
    def run(ids):
        with letters.ledger.read() as connection:
            return words(connection, letters.task, letters.project, ids)

    return run


@pytest.fixture
def gold(letters, says, send_now, pull_now, now):
    """Let an annotator answer four gold questions, of which some are right."""

    def run(person, right):
        ids = letters.choose(*(f"{person}{number}a".encode() for number in range(4)))
        row = {"reliability": 1.0, "num_annotations": 0, "source": "start"}
        with letters.ledger.begin() as connection:
            add_labels(connection, [Label(sample_id=key, answer="a", **row) for key in ids], now)
        letters.ask(ids, Purpose.GOLD)
        send_now()
        for number, row in enumerate(letters.rows(Purpose.GOLD)[key] for key in ids):
            says(row.external_id, "a" if number < right else "b", by=person)
        pull_now()

    return run


def test_only_labels_of_one_annotator_who_is_not_measured_count(
    letters, send_now, says, label_now, gold, on_trust
):
    ids = letters.choose(b"x1", b"x2", b"x3", num_annotators=2)
    send_now()
    for key, given in zip(ids, [{"eve": "a"}, {"eve": "a", "bob": "a"}, {"bob": "c"}], strict=True):
        for person, letter in given.items():
            says(key, letter, by=person)
    label_now()
    gold("bob", right=4)
    gold("eve", right=1)
    eve = Word(annotator="eve", num_gold=4, num_gold_right=1, sample_ids=(ids[0],))
    assert on_trust(ids) in ([eve], [])  # none once her label is withdrawn


def test_an_expert_is_vouched_for_by_the_project(letters, send_now, says, label_now, on_trust):
    (key,) = letters.choose(b"x1")
    send_now()
    says(key, "a", by="eve")
    label_now()
    assert [one.annotator for one in on_trust([key])] == ["eve"]
    letters.change(annotators={"domain_experts": ["eve"]})
    assert on_trust([key]) == []
