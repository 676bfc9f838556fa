"""The nights as a table: what is not known is missing, never 0."""

import dataclasses
import io

import pandas as pd
import pytest
from rich.console import Console

from flywheel.cli.printing import night_table
from flywheel.ledger.judged import add_report, add_rescored, report_of_night
from flywheel.ledger.nights import open_night
from flywheel.report import nights_frame


@pytest.fixture
def frame(shared):
    with shared.loop.ledger.read() as connection:
        return nights_frame(connection)


def test_a_project_without_nights_has_no_rows(loop):
    with loop.ledger.read() as connection:
        assert nights_frame(connection).empty


def test_each_night_is_a_row_with_its_verdict(frame):
    assert frame.index.tolist() == [1, 2, 3, 4]
    assert frame.verdict.tolist() == ["PROMOTE", "NO-VERDICT", "REJECT", "PROMOTE"]


def test_numbers_are_those_of_the_stored_report(shared, frame):
    with shared.loop.ledger.read() as connection:
        report = report_of_night(connection, 4)
    candidate = next(entry.metric for entry in report.entries if entry.name == "candidate")
    found = tuple(frame.loc[4, ["candidate", "candidate_low", "candidate_high"]])
    assert found == (candidate.value, candidate.low, candidate.high)


def test_before_the_first_release_there_is_no_champion(frame):
    assert pd.isna(frame.champion[1])
    assert pd.isna(frame.champion_start[1])


def test_production_and_evidence_are_columns_and_missing_before_there_are_any(frame):
    found = tuple(frame.loc[4, ["production", "production_low", "production_high"]])
    assert found == (0.872, 0.827, 0.917)
    assert frame.e_value[4] > 1
    assert pd.isna(frame.production[1])
    assert pd.isna(frame.e_value[1])


def test_one_metric_is_named_by_its_formula_alone(frame):
    assert set(frame.metric) == {"correct"}


def another_metric(story, metric_id, formula):
    """A later night under another metric, and night 2 measured anew under it."""
    with story.loop.ledger.begin() as connection:
        first, last = report_of_night(connection, 2), report_of_night(connection, 4)
        new = {"metric_id": metric_id, "metric": formula}
        open_night(connection, story.now())
        add_report(connection, dataclasses.replace(last, id="a" * 64, night=5, **new))
        entries = tuple(dataclasses.replace(one, metric=None) for one in first.entries)
        add_rescored(connection, first.id, dataclasses.replace(first, entries=entries, **new))
        return nights_frame(connection)


def test_nights_under_an_older_metric_are_told_apart(four_nights):
    frame = another_metric(four_nights, "b" * 64, "recall")
    assert frame.metric.tolist() == ["correct", "recall", "correct", "correct", "recall"]


def test_a_night_that_was_measured_anew_has_its_number_under_the_newest_metric(four_nights):
    frame = another_metric(four_nights, "b" * 64, "recall")
    assert pd.isna(frame.candidate[2])
    assert not pd.isna(frame.candidate[3])


def test_two_metrics_of_one_formula_carry_their_ids(four_nights):
    frame = another_metric(four_nights, "b" * 64, "correct")
    assert frame.metric[5] == "correct (bbbbbb)"
    assert frame.metric[4] not in ("correct", frame.metric[5])


def test_it_comes_back_from_a_file_as_it_was(frame):
    read = pd.read_csv(io.StringIO(frame.to_csv()), index_col="night").convert_dtypes()
    pd.testing.assert_frame_equal(read, frame, check_dtype=False)


def test_the_terminal_shows_every_night_within_80_columns(frame, shared):
    console = Console(width=80, record=True, file=io.StringIO())
    console.print(night_table(shared.loop.project, frame))
    shown = console.export_text()
    assert all(verdict in shown for verdict in frame.verdict)
    assert "…" not in shown


def test_the_table_names_the_metric_and_says_what_at_start_means(frame, shared):
    console = Console(width=80, record=True, file=io.StringIO())
    console.print(night_table(shared.loop.project, frame.assign(candidate=pd.NA)))
    shown = console.export_text()
    metric = shared.loop.project.metric
    assert f"{metric.optimize} ({'higher' if metric.higher_is_better else 'lower'} is" in shown
    assert ("at start: on the" in shown) == frame.candidate_start.notna().any()


def test_without_numbers_at_start_the_table_does_not_explain_them(frame, shared):
    console = Console(width=80, record=True, file=io.StringIO())
    nothing = frame.assign(champion_start=pd.NA, candidate_start=pd.NA)
    console.print(night_table(shared.loop.project, nothing))
    assert "at start" not in console.export_text()
