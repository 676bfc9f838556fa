"""The page about all nights: whole with data and without, bounded, and the same bytes each time."""

import dataclasses
import re
import xml.etree.ElementTree as ET

import pytest

from flywheel.ledger.releases import add_release, release_history
from flywheel.records import FailureState
from flywheel.report import write_overview
from flywheel.report.overview.facts import read_overview
from flywheel.report.overview.page import draw_overview
from flywheel.report.overview.sheets import drift_sheet, median_line, releases_sheet, saved_line


@pytest.fixture(scope="session")
def facts(facts_of_month):
    return facts_of_month


@pytest.fixture(scope="session")
def charts(facts):
    return draw_overview(facts)


@pytest.fixture(scope="session")
def page(month):
    return write_overview(month).read_text()


def words(page):
    return re.sub(r"\s+", " ", re.sub(r"<[^>]*>", " ", re.sub(r"(?s)<style.*?</style>", "", page)))


def test_a_fresh_project_says_of_every_section_what_will_be_here(loop):
    page = write_overview(loop).read_text()
    assert page.count("<h2>") == 8
    said = words(page)
    assert len(re.findall("will appear|appears? once|will show|drift needs two nights", said)) >= 8
    assert "flywheel night trains and releases the first model" in said
    assert "<svg" not in page


def test_a_year_that_has_all_shows_all(page):
    assert page.count("<svg") == 10
    assert "ere will be" not in words(page)


def test_every_chart_is_well_formed_and_says_what_it_shows(charts):
    for svg in charts.values():
        assert ET.fromstring(svg.replace("xlink:href", "href")).attrib["aria-label"]


@pytest.mark.parametrize("nothing", ["nan", "None", "inf", "undefined"])
def test_no_number_is_shown_that_is_none(page, nothing):
    assert not re.search(rf"\b{nothing}\b", words(page))


def test_nothing_is_loaded_from_anywhere_and_no_script_runs(page):
    assert not re.search(r'(?:src|href|action)="(?:https?:)?//', page)
    assert "<script" not in page


def test_text_from_outside_stays_text(four_nights):
    loop = four_nights.loop
    with loop.ledger.begin() as connection:
        serving = release_history(connection)[0].checkpoint_digest
        add_release(connection, serving, f"roll-back: {four_nights.hostile}", loop.now())
    page = write_overview(loop).read_text()
    assert "<script" not in page
    assert "&lt;script&gt;" in page


def test_only_pages_that_are_written_are_linked(month, charts, monkeypatch):
    monkeypatch.setattr("flywheel.report.overview.page.draw_overview", lambda _: charts)
    folder = month.project.state / "reports"
    folder.mkdir(exist_ok=True)
    (folder / "night-0029.html").touch()
    page = write_overview(month).read_text()
    (folder / "night-0029.html").unlink()
    assert set(re.findall(r'<a href="([^"]+)"', page)) == {"night-0029.html", "labeling.html"}


def test_the_same_ledger_gives_the_same_bytes(month, page, charts, monkeypatch):
    monkeypatch.setattr("flywheel.report.overview.page.draw_overview", lambda _: charts)
    assert write_overview(month).read_text() == page


def test_a_year_of_nights_is_thinned_out_and_says_so(many_nights):
    page = write_overview(many_nights.loop).read_text()
    assert "60 of 400 nights are drawn, evenly spaced." in page
    assert page.count("<tr>") < 60
    assert "flywheel nights --csv nights.csv" in page
    assert len(page) < 500_000


def test_failures_are_counted_by_state_and_by_slice(facts):
    assert sum(facts.failures.values()) > 100
    assert sum(sum(one.values()) for one in facts.slices.values()) == facts.num_sliced
    seen = sum(moved.get(FailureState.SEEN, 0) for moved in facts.moves.values())
    assert seen == sum(facts.failures.values())


def test_labels_saved_and_the_time_to_a_fix_are_told_with_intervals(facts):
    assert re.fullmatch(r"-?[\d,]+ \[-?[\d,]+, [\d,]+\]", saved_line(facts.saved))
    assert re.fullmatch(r"[\d.]+ \[[\d.]+, [\d.]+\] days", median_line(facts.fix_times))


def test_a_model_that_served_before_is_a_roll_back(four_nights):
    loop = four_nights.loop
    with loop.ledger.begin() as connection:
        add_release(connection, release_history(connection)[0].checkpoint_digest, "x", loop.now())
    sheet = releases_sheet(read_overview(loop))
    assert [row[5] for row in sheet.rows] == ["roll-back", "release", "release"]
    assert "Releases so far: 3; of these, roll-backs: 1." in sheet.note


def test_an_alarm_of_drift_is_drawn_however_many_nights_there_are(facts):
    quiet = facts.drift[-1][1]
    loud = dataclasses.replace(quiet, distance=0.5, low=0.3, is_alarm=True)
    year = tuple((night, loud if night == 201 else quiet) for night in range(400))
    drawn = dataclasses.replace(facts, drift=year)
    drift = draw_overview(drawn)["drift"]
    assert "1 of them with an alarm" in drift
    assert drift.count("var(--required)") > 1
    assert "1 alarms so far, the last in night 201" in drift_sheet(drawn).note
