"""Prints the labeling page's tables at a terminal."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from rich.markup import escape
from rich.table import Table

from flywheel.cli.terminal import Terminal
from flywheel.loop import Loop
from flywheel.report.kit.tables import Sheet
from flywheel.report.labeling.facts import read_labeling, read_quality
from flywheel.report.labeling.page import annotator_frame, flags, next_steps
from flywheel.report.labeling.sheets import annotator_sheets, budget_sheet, cost_sheets, queue_sheet


def show_labels(loop: Loop, console: Terminal, csv: Path | None) -> None:
    """Print annotators, queue, budgets, costs and next steps; with `csv`, also write a file."""
    facts, quality = read_labeling(loop), read_quality(loop)
    project, currency = loop.project, loop.project.cost.currency
    sheets = (
        *annotator_sheets(facts, quality, currency),
        queue_sheet(facts, project),
        budget_sheet(facts, currency),
        *cost_sheets(facts, currency),
    )
    for sheet in sheets:
        for part in sheet_parts(sheet):
            console.print(part, highlight=False)
    console.print("[bold]Next steps[/]")
    for step in next_steps(facts, quality, project):
        console.print(f"- {step}", highlight=False, markup=False)
    if csv is not None:
        annotator_frame(facts, quality, flags(facts, quality, project)).to_csv(csv)
        console.say(f"wrote {csv}")


def sheet_parts(sheet: Sheet) -> Iterator[Table | str]:
    """Yield heading, table and note of a sheet."""
    yield f"[bold]{escape(sheet.title)}[/]"
    if sheet.rows:
        table = Table(
            box=None, pad_edge=False, padding=(0, 2, 0, 0), show_header=bool(sheet.headings)
        )
        for column in range(len(sheet.rows[0])):
            heading = sheet.headings[column] if sheet.headings else ""
            is_value = column in sheet.values
            table.add_column(
                escape(heading), justify="right" if is_value else "left", overflow="fold"
            )
        for row in sheet.rows:
            table.add_row(*map(escape, row))
        yield table
    yield f"[dim]{escape(sheet.note)}[/]\n" if sheet.note else ""
