"""The night in one Markdown page."""

import pytest

from flywheel.errors import UnknownIdError
from flywheel.report import night_page
from flywheel.report.summaries import STEP_NAMES


def test_the_page_opens_with_the_verdict_and_the_reason_that_decided(four_nights):
    lines = night_page(four_nights.loop, 2).splitlines()
    assert lines[0] == "# colors, night 2: REJECT"
    assert lines[2].startswith("the candidate is measured on 40 samples &lt;script&gt;")


def test_every_step_is_a_line_of_the_table(four_nights):
    page = night_page(four_nights.loop, 2)
    assert all(f"\n| {name} | " in page for name in STEP_NAMES)
    assert "| collect | 6 new failures in 6 predictions and 3 feedback | 1.5 s |" in page


def test_it_links_to_the_report_and_to_the_labeling_project(four_nights):
    page = night_page(four_nights.loop, 2)
    assert "[the whole report](http://127.0.0.1:8700/reports/night-0002.html)" in page
    assert "[the labeling project](http://127.0.0.1:8780/projects/7/data)" in page


def test_a_night_under_way_says_what_is_not_done(story):
    story.predict(b"\x01")
    story.gather(0)
    page = night_page(story.loop, 0)
    assert "night 0: No verdict yet" in page
    assert "| retrain | not done | - |" in page


def test_a_night_that_never_was_is_an_error(loop):
    with pytest.raises(UnknownIdError, match="no night 0"):
        night_page(loop, 0)
