"""Questions to a person: one waits at a time, and the first answer stays."""

from dataclasses import replace
from datetime import timedelta

import pytest

from flywheel.errors import UnknownIdError
from flywheel.ledger.judged import (
    add_decision,
    add_report,
    answer,
    ask,
    find_approval,
    last_approval,
    waiting_approval,
)
from flywheel.records import Approval, Consent
from flywheel.testing import blank_decision, blank_report


@pytest.fixture
def connection(ledger):
    """With three decisions to ask about."""
    with ledger.begin() as connection:
        add_report(connection, blank_report())
        for name in ("one", "other", "three"):
            add_decision(connection, blank_decision(id=name))
        yield connection


@pytest.fixture
def question(production):
    def make(name, night=3):
        return Approval(
            decision_id=name,
            night=night,
            asked_at=production.now,
            deadline=production.now + timedelta(hours=1),
            at_deadline=Consent.DECLINE,
        )

    return make


def test_a_question_waits_and_asked_again_it_is_the_same(connection, question):
    asked = ask(connection, question("one"))
    later = replace(asked, deadline=asked.deadline + timedelta(hours=9))
    assert ask(connection, later) == asked == waiting_approval(connection)


def test_a_newer_question_takes_the_place_of_the_one_that_waits(connection, question):
    ask(connection, question("one"))
    newer = ask(connection, question("other", night=4))
    assert waiting_approval(connection) == last_approval(connection) == newer
    older = find_approval(connection, "one")
    assert (older.answer, older.reason) == (
        Consent.SUPERSEDED,
        "decision other took its place",
    )


def test_the_first_answer_stays(connection, question):
    asked = ask(connection, question("one"))
    given = replace(asked, answer=Consent.APPROVE, answered_by="Ada", reason="good")
    answer(connection, given)
    answer(connection, replace(given, answer=Consent.DECLINE))
    assert find_approval(connection, "one") == given
    assert waiting_approval(connection) is None


def test_a_question_that_was_answered_is_not_superseded(connection, question):
    given = replace(ask(connection, question("one")), answer=Consent.DECLINE)
    answer(connection, given)
    ask(connection, question("other"))
    assert find_approval(connection, "one") == given


@pytest.mark.parametrize(
    ("start", "told"), [("o", "several"), ("", "several"), ("x", "no approval"), ("three", "no")]
)
def test_a_question_is_found_by_the_start_of_its_decision_or_not_at_all(
    connection, question, start, told
):
    for name in ("one", "other"):
        ask(connection, question(name))
    with pytest.raises(UnknownIdError, match=f"{told}.*'{start}'; flywheel status"):
        find_approval(connection, start)
