"""Sheets as Markdown: cells stay cells, whatever they hold."""

from flywheel.report.kit import tables
from flywheel.report.kit.tables import Sheet, facts_sheet

HOSTILE = "a|b <script>\n# c"


def test_a_sheet_is_a_heading_a_table_and_a_note():
    one = Sheet(key="k", title="Slices", headings=("a", "b"), rows=(("1", "2"),), note="Sure.")
    assert tables.sheet(one) == "## Slices\n\n| a | b |\n| --- | --- |\n| 1 | 2 |\n\nSure."


def test_what_and_value_need_no_headings():
    said = tables.sheet(facts_sheet("k", "Budget", [("alpha", "0.05")]))
    assert said.endswith("| **alpha** | 0.05 |")


def test_a_sheet_without_rows_says_why():
    assert (
        tables.sheet(facts_sheet("k", "Budget", [], "Not metered.")) == "## Budget\n\nNot metered."
    )


def test_cells_from_outside_stay_cells():
    one = Sheet(key="k", title=HOSTILE, headings=("a", "b"), rows=((HOSTILE, "2"),))
    *_, row = tables.sheet(one).splitlines()
    assert row == r"| a\|b &lt;script&gt; \# c | 2 |"
