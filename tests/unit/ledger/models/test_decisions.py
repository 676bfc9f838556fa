import pytest
from sqlalchemy.exc import IntegrityError

from flywheel.errors import UnknownIdError
from flywheel.ledger.judged import (
    add_decision,
    add_report,
    find_decision,
    get_decision,
    last_decision_on,
)
from flywheel.records import Verdict


def test_a_decision_comes_back_whole_by_its_night(connection, report, decision):
    add_report(connection, report("r", 4))
    add_decision(connection, decision("d", 4, "r"))
    assert get_decision(connection, 4) == decision("d", 4, "r")
    assert get_decision(connection, 5) is None


def test_adding_a_decision_twice_changes_nothing(connection, report, decision):
    add_report(connection, report("r", 4))
    for verdict in (Verdict.HOLD, Verdict.PROMOTE):
        add_decision(connection, decision("d", 4, "r", verdict))
    assert get_decision(connection, 4).verdict is Verdict.HOLD


def test_a_decision_needs_its_report(connection, decision):
    with pytest.raises(IntegrityError):
        add_decision(connection, decision("d", 4, "nowhere"))


def test_the_last_word_on_a_candidate_counts(connection, report, decision):
    for night, verdict in ((1, Verdict.HOLD), (2, Verdict.REJECT)):
        add_report(connection, report(f"r{night}", night, candidate_digest="x"))
        add_decision(connection, decision(f"d{night}", night, f"r{night}", verdict))
    assert last_decision_on(connection, "x").verdict is Verdict.REJECT
    assert last_decision_on(connection, "b") is None


def test_a_decision_keeps_its_evidence_and_whom_it_overrides(connection, report, decision):
    add_report(connection, report("r", 4))
    whole = decision(
        "d", 4, "r", e_value=12.5, needed_e_value=60.0, closes_challenge=True, overrides="gate"
    )
    add_decision(connection, whole)
    assert get_decision(connection, 4) == whole


def test_a_decision_is_found_by_the_start_of_its_id(connection, report, decision):
    add_report(connection, report("r", 4))
    for name in ("abc1", "abd2"):
        add_decision(connection, decision(name, 4, "r"))
    assert find_decision(connection, "abc").id == "abc1"


@pytest.mark.parametrize(
    ("start", "told"), [("ab", "several"), ("x", "no decision"), ("", "begin")]
)
def test_a_start_that_fits_none_or_several_is_refused(connection, report, decision, start, told):
    add_report(connection, report("r", 4))
    for name in ("abc1", "abd2"):
        add_decision(connection, decision(name, 4, "r"))
    with pytest.raises(UnknownIdError, match=told):
        find_decision(connection, start)
