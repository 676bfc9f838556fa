"""The page of a simulated production: what the nights brought, beside what else could have been.

Only a world that knows the truth can tell it, so this is a page of demos. What it shows is measured
elsewhere.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from flywheel.loop import Loop
from flywheel.report.kit.charts import Line, history_chart
from flywheel.report.kit.pages import put, render
from flywheel.report.kit.tables import Sheet

STORY_PAGE = "story.html"


@dataclass(frozen=True, kw_only=True, slots=True)
class Pair:
    """One sample as two models answer it."""

    name: str
    before: str
    """data URI of the picture with the first model's answer"""
    after: str
    """the same with the newest model's"""
    told: str
    """the two in numbers"""


@dataclass(frozen=True, kw_only=True, slots=True)
class Story:
    """Everything on the page."""

    lead: str
    lines: tuple[Line, ...]
    """the metric over the nights: of what served, of the candidates, and of the other arms"""
    label: str
    """of the metric's axis"""
    required: float | None
    caption: str
    sheets: tuple[Sheet, ...]
    pairs: tuple[Pair, ...]
    pairs_caption: str


def write_story(loop: Loop, story: Story) -> Path:
    """Write the page and return its path; an older one is replaced in one piece."""
    folder = loop.project.state / "reports"
    curve = history_chart(
        story.lines, story.required, story.label, f"{story.label} over the nights, by arm"
    )
    page = render(
        "story.html",
        project=loop.project,
        story=story,
        charts={"curve": curve} if any(line.points for line in story.lines) else {},
        reports=sorted(path.name for path in folder.glob("night-*.html")),
        written_at=loop.now(),
    )
    return put(folder / STORY_PAGE, page)
