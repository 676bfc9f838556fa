"""The dossier: one page to file, and what the decision was made of."""

import dataclasses
import re

import pytest

from flywheel.ledger.judged import add_decision, get_decision, report_of_night
from flywheel.loop.replay import Exhibit, read_exhibit
from flywheel.records import Verdict
from flywheel.report import write_dossier


@pytest.fixture
def page(filed):
    return filed.read_text(encoding="utf-8")


def words(page):
    return " ".join(re.sub(r"<[^>]+>", " ", page).split())


def test_the_folder_holds_the_page_the_records_and_the_scores(filed, exhibit):
    names = {one.name for one in filed.parent.iterdir()}
    assert names == {"index.html", "decision.json", "scores.npz"}
    assert filed.name == "index.html"
    assert read_exhibit(filed.parent) == exhibit


def test_the_verdict_and_every_reason_are_on_the_page(page, exhibit):
    assert f"<strong>{exhibit.decision.verdict}</strong>" in page
    assert page.count("<li>the candidate is measured on 40 samples") == 1
    assert "<li>latency 2.1 ms is fine</li>" in page


def test_every_digest_stands_in_full(page, exhibit):
    report = exhibit.report
    found = set(re.findall(r"\b[0-9a-f]{64}\b", page))
    assert {exhibit.decision.id, report.id, report.scores_digest, report.metric_id} <= found
    assert {report.candidate_digest, report.champion_digest, report.dataset_id} <= found


def test_it_says_exactly_how_to_derive_the_decision_again(page, exhibit):
    assert f"flywheel replay {exhibit.decision.id[:12]}</code>" in page
    assert "<code>flywheel replay .</code>" in page


def test_the_rules_stand_as_they_were_applied(page):
    assert "gate.alpha 0.05" in words(page)
    assert "metric.requirement 0.95" in words(page)


def test_the_lineage_names_what_made_both_models(page, exhibit):
    assert "Training of the candidate" in page
    assert "train.epochs 5" in words(page)
    assert f"<code>{exhibit.report.dataset_id[:12]}</code>" in page


def test_it_needs_nothing_from_anywhere_and_runs_nothing(page):
    assert not re.search(r"<(script|link|iframe|object|img)\b", page)
    assert not re.search(r"""(src|href)=["'](?!#)""", page)
    assert set(re.findall(r"url\((.)", page)) <= {"#"}


def test_every_chart_of_the_judge_is_there(page):
    assert page.count("<svg") == 8


def test_a_decision_that_nobody_overrode_says_so(page):
    assert "This decision was not overridden." in page


def test_an_override_stands_beside_the_decision_of_the_gate(four_nights, exhibit, tmp_path):
    mine = dataclasses.replace(
        exhibit.decision,
        id="f" * 64,
        verdict=Verdict.REJECT,
        reasons=("Anna <Berg> decided REJECT: not calibrated",),
        overrides=exhibit.decision.id,
    )
    with four_nights.loop.ledger.begin() as connection:
        add_decision(connection, mine)
    page = write_dossier(four_nights.loop, exhibit, tmp_path / "d").read_text()
    assert "Anna &lt;Berg&gt; decided REJECT: not calibrated" in page
    assert "<strong>PROMOTE</strong>" in page


def test_a_decision_of_an_older_version_has_a_dossier_too(shared, exhibit, older, tmp_path):
    report = dataclasses.replace(older[0], dataset_id=exhibit.report.dataset_id)
    decision = dataclasses.replace(older[1], gate_settings={})
    before = Exhibit(report=report, decision=decision, scores=b"scores")
    page = write_dossier(shared.loop, before, tmp_path / "old").read_text()
    assert "Not stored: an older version of flywheel made this decision." in page
    assert not re.search(r"\b(nan|None|inf)\b", words(page))


def test_a_dossier_of_a_first_model_says_that_there_was_no_champion(shared, tmp_path):
    with shared.loop.ledger.read() as connection:
        report, decision = report_of_night(connection, 1), get_decision(connection, 1)
    first = Exhibit(report=report, decision=decision, scores=b"scores")
    page = write_dossier(shared.loop, first, tmp_path / "first").read_text()
    assert "The ledger has no training record of a champion." in page
    assert "nothing serves yet, so there is nothing to challenge" in page


def test_the_sheet_of_tiers_is_in_the_dossier(filed):
    assert "Annotators by tier" in filed.read_text()
