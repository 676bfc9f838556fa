"""What a report has measured, as sheets of plain text."""

import dataclasses
import math

import pytest

from flywheel.records import Estimate
from flywheel.report.kit.measured import measured_sheets, production_line


def sheet(report, key):
    return next(one for one in measured_sheets(report) if one.key == key)


def column(report, key, number):
    return {row[0]: row[number] for row in sheet(report, key).rows}


def test_every_kind_of_baseline_is_a_line(judged):
    kinds = set(column(judged[0], "entries", 1).values())
    assert {"requirement", "published", "scripted", "simple ML", "human"} <= kinds


def test_what_is_not_comparable_is_marked_and_never_the_bound(judged):
    notes = column(judged[0], "entries", 4)
    assert notes["contest"] == "not comparable; other split"
    assert notes["published CNN"].startswith("tightest bound; ")
    assert sum("tightest bound" in note for note in notes.values()) == 1
    assert "The tightest bound is published CNN" in sheet(judged[0], "entries").note


def test_a_requirement_is_met_or_missed_only_when_its_whole_interval_is(judged):
    assert column(judged[0], "watched", 1) == {
        "confidence.mean > 0.5": "met",
        "error_cm.p90 < 1": "open",
        "latency_ms.p95 < 1.5": "missed",
        "error_deg.median": "ignored for now",
        "recall > 0.9": "open, not measured",
    }


def test_without_a_candidate_the_requirements_are_held_against_the_champion(judged):
    report = dataclasses.replace(judged[0], candidate_digest=None)
    missed = dataclasses.replace(report.watched[2], candidate=None)
    report = dataclasses.replace(report, watched=(missed,))
    assert column(report, "watched", 1) == {"latency_ms.p95 < 1.5": "missed"}


def test_a_number_that_is_nan_leaves_its_requirement_open(judged):
    nothing = Estimate(value=math.nan, low=math.nan, high=math.nan, num_samples=9)
    one = dataclasses.replace(judged[0].watched[0], candidate=nothing)
    report = dataclasses.replace(judged[0], watched=(one,))
    assert column(report, "watched", 1) == {"confidence.mean > 0.5": "open, not measured"}


def test_production_is_one_line_with_what_the_labels_would_have_claimed(judged):
    assert production_line(judged[0]) == (
        "production, whichever model answered: 0.872 [0.827, 0.917]; assisted by unlabeled predictions 0.868 "
        "[0.837, 0.899]; averaging all labels would have claimed 0.610 [0.560, 0.660] "
        "(160 labels of 4,200 predictions, nights 1 to 4)"
    )


def test_production_that_nobody_knows_is_said_in_words(older):
    assert production_line(older[0]).startswith("production: not enough data; ")


def test_deferring_is_told_at_its_threshold_and_without_it(judged):
    rows = dict(sheet(judged[0], "abstention").rows)
    assert rows["defer below confidence"] == "0.600"
    assert rows["coverage"] == "58.5 %"
    assert rows["failures with 96 % answered"] == "12.1 %, at most 17.5 %"


def test_no_threshold_that_keeps_the_failure_rate_is_said(judged):
    never = dataclasses.replace(judged[0].abstention, threshold=None)
    rows = dict(sheet(dataclasses.replace(judged[0], abstention=never), "abstention").rows)
    assert rows["defer below confidence"] == "no threshold keeps the failure rate"
    assert "share that is answered then" not in rows


def test_a_failure_rate_that_nobody_asked_for_is_said(judged):
    free = dataclasses.replace(judged[0].abstention, threshold=None, max_failure_rate=None)
    rows = dict(sheet(dataclasses.replace(judged[0], abstention=free), "abstention").rows)
    assert rows["allowed failure rate"] == "not set (abstain.max_failure_rate)"
    assert "defer below confidence" not in rows


def test_lost_guarded_failures_are_named_and_a_long_list_is_cut(judged):
    lost = tuple(f"{number:064d}" for number in range(20))
    many = dataclasses.replace(judged[0].guarded, num_lost=31, lost=lost)
    rows = dict(sheet(dataclasses.replace(judged[0], guarded=many), "guarded").rows)
    assert rows["regressions"].startswith("31: 000000000000, ")
    assert rows["regressions"].endswith(" and 21 more")


@pytest.mark.parametrize("key", ["watched", "guarded", "abstention"])
def test_what_an_older_version_did_not_measure_has_a_sentence_in_its_place(older, key):
    assert sheet(older[0], key).rows == ()
    assert sheet(older[0], key).note


def test_slices_of_an_older_version_have_no_values_of_the_models(older):
    assert set(column(older[0], "slices", 1).values()) == {"not enough data"}
    assert column(older[0], "slices", 3)["dark"] == "-0.050 [-0.090, -0.010]"


def test_every_row_has_as_many_cells_as_there_are_headings(judged, older):
    for one in (*measured_sheets(judged[0]), *measured_sheets(older[0])):
        assert {len(row) for row in one.rows} <= {len(one.headings) or 2}
