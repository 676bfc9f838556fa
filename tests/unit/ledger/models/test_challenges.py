"""Which labels were seen when: the books of the error budget."""

import pytest

from flywheel.ledger.judged import (
    Opening,
    add_decision,
    add_report,
    all_openings,
    close_challenge,
    last_challenge,
    mean_uses,
    open_challenge,
    open_challenges,
)
from flywheel.ledger.samples import Placed, add_samples
from flywheel.records import Sample, Split


@pytest.fixture
def labels(connection, night):
    """Ids of four samples."""
    samples = [Sample.of(bytes([number]), "image/png") for number in range(4)]
    add_samples(connection, [Placed(one, one.id, Split.TEST) for one in samples], night(0))
    return [one.id for one in samples]


def test_the_newest_challenge_counts_generation_before_number(connection, challenge):
    assert last_challenge(connection) is None
    for one in (challenge(1), challenge(2), challenge(1, generation=2)):
        open_challenge(connection, one, (), 3)
    assert last_challenge(connection) == challenge(1, generation=2)
    assert len(open_challenges(connection)) == 3


def test_a_closed_challenge_is_no_open_one_and_closing_twice_changes_nothing(connection, challenge):
    for number in (1, 2, 3):
        open_challenge(connection, challenge(number), (), 3)
    for night in (4, 5):
        close_challenge(connection, challenge(2), night)
    assert open_challenges(connection) == (challenge(1), challenge(3))
    assert last_challenge(connection) == challenge(3)


def test_a_label_belongs_to_the_challenge_that_saw_it_first(connection, challenge, labels):
    open_challenge(connection, challenge(1), labels[:2], 3)
    open_challenge(connection, challenge(2), labels, 5)
    opened = all_openings(connection)
    assert [opened[name].number for name in labels] == [1, 1, 2, 2]
    assert [opened[name].night for name in labels] == [3, 3, 5, 5]


def test_a_label_serves_every_challenge_of_its_chain(challenge):
    """It was seen when challenge 2 was the newest: by 1, which was still open, and by 2."""
    opening = Opening(generation=1, number=2, night=3)
    assert opening.serves(challenge(1))
    assert [opening.serves(challenge(number, took_over=1)) for number in (2, 3, 4)] == [
        True, True, False,
    ]  # fmt: skip
    assert not opening.serves(challenge(3))
    assert not opening.serves(challenge(2, generation=2))


def test_how_many_it_took_over_is_stored(connection, challenge):
    open_challenge(connection, challenge(3, took_over=2), (), 3)
    assert last_challenge(connection) == challenge(3, took_over=2)


def test_a_night_that_is_run_again_opens_nothing_twice(connection, challenge, labels):
    for _ in range(2):
        open_challenge(connection, challenge(1), labels, 3)
    assert len(all_openings(connection)) == 4


def test_uses_count_the_decisions_since_a_label_was_opened(
    connection, challenge, labels, report, decision
):
    open_challenge(connection, challenge(1), labels[:2], 3)
    add_report(connection, report("r", 3))
    add_decision(connection, decision("d", 3, "r", needed_e_value=60.0))
    open_challenge(connection, challenge(1), labels[2:], 4)
    opened = all_openings(connection)
    assert mean_uses(connection, opened, 4) == (2 + 2 + 1 + 1) / 4
    assert mean_uses(connection, {}, 4) == 0
