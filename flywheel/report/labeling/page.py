"""Writes the labeling page: annotators, their quality and cost, the queue, and next steps.

One self-contained HTML file with its charts. It describes the project as of now, not one night.
Charts draw the values they are given; nothing is measured here.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import date
from pathlib import Path
from typing import Any, NamedTuple

from matplotlib.axes import Axes

from flywheel.loop import Loop
from flywheel.project import Project
from flywheel.records import Entry, Estimate
from flywheel.report.kit.charts import Ink, canvas, interval_chart, short_name, to_svg
from flywheel.report.kit.measured import tiers_sheet
from flywheel.report.kit.pages import put, render
from flywheel.report.labeling.facts import Annotator, LabelingFacts, read_labeling, read_quality
from flywheel.report.labeling.flags import flags, next_steps
from flywheel.report.labeling.sheets import (
    anchoring_sheet,
    annotator_sheets,
    budget_sheet,
    cost_sheets,
    disputed_sheet,
    queue_sheet,
)

_MOST_LINES = 6
_STYLES: Any = (
    (Ink.CANDIDATE, "-", "o"),
    (Ink.CHAMPION, "-", "s"),
    (Ink.MUTED, "-", "^"),
    (Ink.CANDIDATE, "--", "v"),
    (Ink.CHAMPION, "--", "D"),
    (Ink.MUTED, "--", "x"),
)
_TICKS = 6


def draw_annotators(annotators: Sequence[Annotator], min_reliability: float) -> dict[str, str]:
    """Return inline SVG of pace and agreement, where there is data."""
    return dict(_charts(annotators, min_reliability))


def _charts(annotators: Sequence[Annotator], min_reliability: float) -> Iterator[tuple[str, str]]:
    paced = [annotator for annotator in annotators if annotator.pace][:_MOST_LINES]
    if paced:
        yield "pace", _pace_chart(paced)
    known = [
        annotator
        for annotator in annotators
        if annotator.measured is not None and annotator.measured.num_answers
    ]
    if known:
        rows = [
            Entry(
                name=annotator.name,
                kind="",
                metric=Estimate(
                    value=annotator.measured.reliability,
                    low=annotator.measured.low,
                    high=annotator.measured.high,
                    num_samples=annotator.measured.num_answers,
                ),
            )
            for annotator in known
            if annotator.measured is not None
        ]
        title = f"Accuracy of {len(rows)} annotators, with intervals"
        label = "probability that an answer is right"
        yield "agreement", interval_chart(rows, min_reliability, label, title)


def _pace_chart(annotators: Sequence[Annotator]) -> str:
    """Draw a line per annotator over the days."""
    figure, axes = canvas(2.6 + 0.1 * len(annotators))
    for annotator, (color, line, mark) in zip(annotators, _STYLES, strict=False):
        days = [day.toordinal() for day, _ in annotator.pace]
        minutes = [value for _, value in annotator.pace]
        name = short_name(annotator.name)
        axes.plot(days, minutes, line, marker=mark, markersize=4, color=color, label=name)
    axes.set_ylim(bottom=0)
    axes.set_ylabel("minutes per answer")
    _name_days(axes, sorted({day for annotator in annotators for day, _ in annotator.pace}))
    figure.legend(
        loc="outside upper left",
        ncols=2,
        columnspacing=1.0,
        handlelength=2.2,
        frameon=False,
        labelcolor=Ink.TEXT,
    )
    return to_svg(figure, f"Mean minutes per answer of {len(annotators)} annotators over the days")


def _name_days(axes: Axes, days: Sequence[date]) -> None:
    """Label the last day and some evenly spaced before it."""
    step = max(-(-len(days) // _TICKS), 1)
    shown = [*days[::-step]][::-1]
    axes.set_xticks([day.toordinal() for day in shown], [f"{day:%m-%d}" for day in shown])
    if len(days) == 1:
        axes.set_xlim(days[0].toordinal() - 1, days[0].toordinal() + 1)


LABELING_PAGE = "labeling.html"


class CampaignRow(NamedTuple):
    """A campaign as a row of the page."""

    title: str
    url: str | None
    """address of its Label Studio project"""
    audience: str
    state: str
    num_open: int
    num_done: int
    num_withdrawn: int
    num_refused: int
    money_per_label: Estimate | None


def write_labeling(loop: Loop, facts: LabelingFacts | None = None) -> Path:
    """Write the page atomically and return its path.

    Args:
        loop: the project.
        facts: the labeling facts, if the caller has read them already.
    """
    facts = facts or read_labeling(loop)
    quality, project = read_quality(loop), loop.project
    currency = project.cost.currency
    page = render(
        "labeling.html",
        project=project,
        facts=facts,
        currency=currency,
        next_steps=next_steps(facts, quality, project),
        flags=flags(facts, quality, project),
        annotators=annotator_sheets(facts, quality, currency),
        anchoring=anchoring_sheet(quality),
        campaigns=list(campaign_rows(facts, project)),
        queue=queue_sheet(facts, project),
        disputed=disputed_sheet(facts),
        budget=budget_sheet(facts, currency),
        costs=cost_sheets(facts, currency),
        tiers=tiers_sheet(facts.report, facts.tiers, currency) if facts.report else None,
        charts=draw_annotators(facts.annotators, project.labeling.min_reliability),
    )
    return put(project.state / "reports" / LABELING_PAGE, page)


def campaign_rows(facts: LabelingFacts, project: Project) -> Iterator[CampaignRow]:
    """Yield every campaign with its counts, oldest first."""
    studio = project.label_studio_page
    for campaign in facts.campaigns:
        counts, spent = facts.states.get(campaign.id, {}), facts.by_campaign.get(campaign.id)
        yield CampaignRow(
            title=campaign.title,
            url=f"{studio}/projects/{campaign.external_project}/data" if campaign.is_used else None,
            audience=campaign.audience,
            state=campaign.state,
            num_open=counts.get("waiting", 0) + counts.get("sent", 0),
            num_done=counts.get("done", 0),
            num_withdrawn=counts.get("withdrawn", 0),
            num_refused=counts.get("refused", 0),
            money_per_label=spent.money_per_label if spent is not None else None,
        )
