"""What a decision rests on: the evidence, its budget, the parts of the error."""

import dataclasses

import pytest

from flywheel.report.kit.challenge import budget_line, budget_sheet, error_sheet, evidence_of
from flywheel.settings.judging import Gate

GATE = Gate()


def spent(report):
    reuse = dataclasses.replace(report.reuse, num_challenges=10)
    return dataclasses.replace(report, challenge=None, fresh=None, reuse=reuse)


def test_the_path_of_the_evidence_ends_at_the_value_of_the_decision(judged):
    path = evidence_of(*judged)
    assert len(path.values) == len(judged[0].fresh.gains)
    assert path.values[-1] == pytest.approx(judged[1].e_value)
    assert path.needed == judged[1].needed_e_value


def test_without_a_challenge_there_is_no_path(older):
    assert evidence_of(*older) is None


def test_without_a_decision_there_is_no_path(judged):
    assert evidence_of(judged[0], None) is None


def test_labels_are_counted_as_fresh_seen_and_sealed(judged):
    rows = dict(budget_sheet(*judged).rows)
    assert rows["fresh labels"] == "45, 15 of them since the last look"
    assert rows["labels used before this challenge"] == "115"
    assert rows["sealed labels, not seen by any decision"] == "12"


def test_the_challenge_stands_with_its_share_of_alpha(judged):
    rows = dict(budget_sheet(*judged).rows)
    assert rows["challenge"] == "3 of 10 of this test set, generation 1, open since night 3"
    assert rows["its share of the error budget"] == "0.00569 of 0.05"
    assert rows["after this night"] == "the challenge goes on"


@pytest.mark.parametrize(("number", "which"), [(1, "challenge 2"), (2, "challenges 1 to 2")])
def test_what_a_challenge_took_over_is_shown(judged, number, which):
    challenge = dataclasses.replace(judged[0].challenge, took_over=number)
    rows = dict(budget_sheet(dataclasses.replace(judged[0], challenge=challenge), judged[1]).rows)
    more = "for a candidate that was trained on at least twice as many"
    assert rows["took over"] == f"the labels of {which}, {more}"


def test_a_report_without_a_decision_yet_shows_the_challenge_alone(judged):
    rows = dict(budget_sheet(judged[0], None).rows)
    assert rows["its share of the error budget"] == "0.00569"
    assert "e-value" not in rows


def test_why_no_challenge_is_open_is_told(judged):
    why = "18 more labels open one"
    report = dataclasses.replace(judged[0], challenge=None, fresh=None, no_challenge=why)
    rows = dict(budget_sheet(report, judged[1]).rows)
    assert rows["challenge"] == "none is open; 3 of 10 of this test set are used"
    assert rows["because"] == why


def test_a_spent_test_set_is_said(judged):
    assert budget_sheet(spent(judged[0]), judged[1]).note.startswith(
        "The error budget of this test set is spent"
    )


def test_a_report_without_a_budget_says_so(older):
    assert budget_sheet(*older).rows == ()
    assert "No error budget" in budget_sheet(*older).note


def test_each_part_of_the_error_asks_for_a_step(judged):
    rows = {row[0]: row for row in error_sheet(judged[0]).rows}
    assert rows["distribution shift"][1] == "0.070 [0.042, 0.098]"
    assert all(step for *_, step in rows.values())


def test_parts_that_were_not_measured_are_said_in_words(older):
    allowed, *others = error_sheet(older[0]).rows
    assert allowed[:2] == ("allowed error", "0.050")
    assert {row[1] for row in others} == {"not enough data"}


def test_an_open_challenge_is_the_state_of_the_budget(judged):
    one = judged[0].challenge
    said = budget_line([one], judged[0], GATE)
    assert said == "challenge 3 of 10 is open since night 3, on 45 fresh labels"
    said = budget_line([one, dataclasses.replace(one, number=4)], judged[0], GATE)
    assert said == "challenges 3, 4 of 10 are open since night 3, on 45 fresh labels"


def test_without_a_challenge_the_missing_labels_are_counted(judged):
    said = budget_line((), judged[0], GATE)
    assert said == (
        "no challenge is open (3 of 10 used); 18 more labels of the probability share open the next"
    )


def test_enough_sealed_labels_wait_for_a_candidate(judged):
    reuse = dataclasses.replace(judged[0].reuse, num_sealed=30)
    said = budget_line((), dataclasses.replace(judged[0], reuse=reuse), GATE)
    assert said == "no challenge is open (3 of 10 used); the next candidate may open one"


def test_a_spent_test_set_names_the_labels_that_renew_it(judged):
    said = budget_line((), spent(judged[0]), GATE)
    assert said.startswith("the test set is spent (10 of 10 used); 288 more labels")
