"""Only what has data is drawn."""

import dataclasses

from flywheel.report.kit.evidence import draw_loss, draw_report, required_by


def test_a_judged_night_has_every_chart(judged):
    keys = {"entries", "start_entries", "production", "slices", "evidence", "error", "abstention"}
    assert draw_report(*judged).keys() == keys


def test_a_report_of_an_older_version_has_the_charts_of_its_time(older):
    assert draw_report(*older).keys() == {"entries", "start_entries", "slices"}


def test_a_report_that_measured_nothing_has_no_chart(older):
    nothing = dataclasses.replace(older[0], entries=(), start_entries=(), slices=())
    assert draw_report(nothing, None) == {}
    assert draw_loss(None) == {}


def test_published_results_alone_are_no_chart(judged):
    published = tuple(one for one in judged[0].entries if one.kind == "published")
    assert "entries" not in draw_report(dataclasses.replace(judged[0], entries=published), None)


def test_the_requirement_is_the_number_of_its_entry(judged):
    assert required_by(judged[0]) == 0.95
    assert required_by(dataclasses.replace(judged[0], entries=())) is None
