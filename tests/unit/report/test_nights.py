"""The nights as a table: what is not known is missing, never 0."""

import io

import pandas as pd
import pytest
from rich.console import Console

from flywheel.cli.printing import night_table
from flywheel.ledger.models import report_of_night
from flywheel.report import nights_frame


@pytest.fixture
def frame(four_nights):
    with four_nights.loop.ledger.read() as connection:
        return nights_frame(connection)


def test_a_project_without_nights_has_no_rows(loop):
    with loop.ledger.read() as connection:
        assert nights_frame(connection).empty


def test_each_night_is_a_row_with_its_verdict(frame):
    assert frame.index.tolist() == [0, 1, 2, 3]
    assert frame.verdict.tolist() == ["PROMOTE", "NO-VERDICT", "REJECT", "PROMOTE"]


def test_numbers_are_those_of_the_stored_report(four_nights, frame):
    with four_nights.loop.ledger.read() as connection:
        report = report_of_night(connection, 3)
    candidate = next(entry.metric for entry in report.entries if entry.name == "candidate")
    found = tuple(frame.loc[3, ["candidate", "candidate_low", "candidate_high"]])
    assert found == (candidate.value, candidate.low, candidate.high)


def test_before_the_first_release_there_is_no_champion(frame):
    assert pd.isna(frame.champion[0])
    assert pd.isna(frame.champion_start[0])


def test_it_comes_back_from_a_file_as_it_was(frame):
    read = pd.read_csv(io.StringIO(frame.to_csv()), index_col="night").convert_dtypes()
    pd.testing.assert_frame_equal(read, frame, check_dtype=False)


def test_the_terminal_shows_every_night_within_80_columns(frame, four_nights):
    console = Console(width=80, record=True, file=io.StringIO())
    console.print(night_table(four_nights.loop.project, frame))
    shown = console.export_text()
    assert all(verdict in shown for verdict in frame.verdict)
    assert "…" not in shown


def test_the_table_names_the_metric_and_says_what_at_start_means(frame, four_nights):
    console = Console(width=80, record=True, file=io.StringIO())
    console.print(night_table(four_nights.loop.project, frame.assign(candidate=pd.NA)))
    shown = console.export_text()
    metric = four_nights.loop.project.metric
    assert f"{metric.optimize} ({'higher' if metric.higher_is_better else 'lower'} is" in shown
    assert ("at start: on the" in shown) == frame.candidate_start.notna().any()


def test_without_numbers_at_start_the_table_does_not_explain_them(frame, four_nights):
    console = Console(width=80, record=True, file=io.StringIO())
    nothing = frame.assign(champion_start=pd.NA, candidate_start=pd.NA)
    console.print(night_table(four_nights.loop.project, nothing))
    assert "at start" not in console.export_text()
