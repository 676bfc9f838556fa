"""Writes the page about all nights: how the flywheel turned, in one HTML file.

It needs nothing from anywhere and no script; it is about now and not about one night.
"""

from __future__ import annotations

from pathlib import Path

from flywheel.loop import Loop
from flywheel.report.judged import advice
from flywheel.report.labeling import LABELING_PAGE
from flywheel.report.labeling_facts import LabelingFacts
from flywheel.report.labeling_sheets import cost_sheets
from flywheel.report.measured import production_line
from flywheel.report.rendering import put, render
from flywheel.report.wheel_charts import draw_wheel
from flywheel.report.wheel_facts import read_wheel
from flywheel.report.wheel_sheets import (
    drift_sheet,
    median_line,
    mending_sheet,
    nights_rows,
    releases_sheet,
    saved_line,
    saved_sheet,
    slices_sheet,
    states_sheet,
    within,
)

WHEEL_PAGE = "flywheel.html"


def write_wheel(loop: Loop, labeling: LabelingFacts | None = None) -> Path:
    """Write the page and return its path; an older one is replaced in one piece.

    Args:
        loop: the project.
        labeling: how labeling stands, when that is read already.
    """
    facts = read_wheel(loop, labeling)
    report, currency = facts.report, loop.project.cost.currency
    folder = loop.project.state / "reports"
    page = render(
        "flywheel.html",
        project=loop.project,
        facts=facts,
        currency=currency,
        next_step=advice(loop, report) if report else None,
        production_line=production_line(report) if report else "",
        nights=nights_rows(facts),
        states=states_sheet(facts),
        slices=slices_sheet(facts),
        costs=cost_sheets(facts.labeling, currency)[0],
        saved=saved_sheet(facts.saved),
        saved_line=within(saved_line(facts.saved)) if facts.saved else None,
        mending=mending_sheet(facts),
        median=within(median_line(facts.mended)) if facts.mended else None,
        releases=releases_sheet(facts),
        drift=drift_sheet(facts),
        labeling_page=LABELING_PAGE,
        pages={path.name for path in folder.glob("night-*.html")},
        charts=draw_wheel(facts),
    )
    return put(folder / WHEEL_PAGE, page)
