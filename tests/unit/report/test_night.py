"""The night in one Markdown page."""

from dataclasses import replace

import pytest

from flywheel.errors import UnknownIdError
from flywheel.ledger.judged import report_of_night
from flywheel.loop.steps import STEPS
from flywheel.report import baseline_rows, night_page
from flywheel.settings.operations import Links


@pytest.fixture
def linked(shared):
    """The four nights, of which pages are there."""
    folder = shared.loop.project.state / "reports"
    folder.mkdir(exist_ok=True)
    for name in ("night-0003.html", "flywheel.html", "labeling.html"):
        (folder / name).touch()
    return shared


def test_the_page_opens_with_the_verdict_and_the_reason_that_decided(shared):
    lines = night_page(shared.loop, 3).splitlines()
    assert lines[0] == "# colors, night 3: REJECT"
    assert lines[2].startswith("the candidate is measured on 40 samples &lt;script&gt;")


def test_every_step_is_a_line_of_the_table(shared):
    page = night_page(shared.loop, 3)
    assert all(f"\n| {step.name} | " in page for step in STEPS)
    assert "| collect | 6 new suspects in 6 predictions and 3 feedback | 1.5 s |" in page


def test_it_links_the_site_the_report_that_is_written_and_the_labeling_project(linked):
    page = night_page(linked.loop, 3)
    for name in ("pages/nights/3", "pages/", "pages/annotators", "reports/night-0003.html"):
        assert f"](http://127.0.0.1:8700/{name})" in page
    assert "[the labeling project](http://127.0.0.1:8780/projects/7/data)" in page


def test_a_page_that_is_not_written_is_not_linked(four_nights):
    assert "/reports/" not in night_page(four_nights.loop, 3)


def test_links_name_the_address_by_which_others_reach_the_server(linked):
    project = linked.loop.project
    serve = project.serve.model_copy(update={"public_url": "https://models.example.com/"})
    loop = replace(linked.loop, project=project.model_copy(update={"serve": serve}))
    assert "](https://models.example.com/reports/night-0003.html)" in night_page(loop, 3)


def test_links_for_people_come_before_the_address_for_label_studio(linked):
    project = linked.loop.project
    changed = {
        "serve": project.serve.model_copy(update={"public_url": "http://model-server:8700"}),
        "links": Links(model_server="https://models.example.com"),
    }
    loop = replace(linked.loop, project=project.model_copy(update=changed))
    assert "](https://models.example.com/reports/night-0003.html)" in night_page(loop, 3)


def test_the_models_stand_beside_each_other_with_intervals_and_a_chart(shared):
    page = night_page(shared.loop, 4)
    assert "| candidate | 0.850 | [0.810, 0.890] | 40 |" in page
    assert "| requirement | 0.950 |  |  |" in page
    assert "Candidate minus champion, paired, positive is better: 0.010 [-0.030, 0.050]" in page
    assert page.count("](data:image/png;base64,") == 1
    assert len(page) < 200_000  # far below the limit of events, 1.5 MB


def test_it_says_how_far_labeling_has_come_and_what_is_left_of_the_money(shared):
    page = night_page(shared.loop, 4)
    assert "████ 100% came back: 24 of 24 labeling tasks" in page
    assert " | limit | spent | committed | left |" in page


def test_baselines_are_rows_of_plain_text_with_what_is_not_comparable_marked(shared):
    with shared.loop.ledger.read() as connection:
        rows = baseline_rows(report_of_night(connection, 4))
    assert all(type(cell) is str for row in rows for cell in row.values())
    contest = next(row for row in rows if row["who"] == "contest")
    assert (contest["comparable"], contest["note"]) == ("no", "other split")
    assert next(row for row in rows if row["who"] == "annotators")["value"] == "not enough data"


def test_a_night_under_way_says_what_is_not_done(story):
    story.predict(b"\x01")
    story.gather(1)
    page = night_page(story.loop, 1)
    assert "night 1: No verdict yet" in page
    assert "| retrain | not done | - |" in page


def test_a_night_that_never_was_is_an_error(loop):
    with pytest.raises(UnknownIdError, match="no night 1"):
        night_page(loop, 1)
