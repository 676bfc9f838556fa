"""Writes the page of labeling: who labels, how well, at what cost, and what to do next.

One HTML file that needs nothing from anywhere; it is about now and not about one night.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from flywheel.loop import Loop
from flywheel.project import Project
from flywheel.records import Estimate
from flywheel.report.labeling_charts import draw_people
from flywheel.report.labeling_facts import LabelingFacts, read_labeling
from flywheel.report.labeling_sheets import (
    anchoring_sheet,
    budget_sheet,
    cost_sheets,
    disputed_sheet,
    people_sheets,
    queue_sheet,
)
from flywheel.report.labeling_words import flags, next_steps
from flywheel.report.quality import read_quality
from flywheel.report.rendering import put, render
from flywheel.report.tiers import tiers_sheet

LABELING_PAGE = "labeling.html"


class CampaignRow(NamedTuple):
    """A campaign as the page shows it."""

    title: str
    url: str | None
    """of its project in Label Studio"""
    audience: str
    state: str
    num_open: int
    num_done: int
    num_withdrawn: int
    num_refused: int
    money_per_label: Estimate | None


def write_labeling(loop: Loop, facts: LabelingFacts | None = None) -> Path:
    """Write the page and return its path; an older one is replaced in one piece.

    Args:
        loop: the project.
        facts: how labeling stands, when that is read already.
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
        people=people_sheets(facts, quality, currency),
        anchoring=anchoring_sheet(quality),
        campaigns=list(campaign_rows(facts, project)),
        queue=queue_sheet(facts, project),
        disputed=disputed_sheet(facts),
        budget=budget_sheet(facts, currency),
        costs=cost_sheets(facts, currency),
        tiers=tiers_sheet(facts.report, facts.tiers, currency) if facts.report else None,
        charts=draw_people(facts.people, project.labeling.min_reliability),
    )
    return put(project.state / "reports" / LABELING_PAGE, page)


def campaign_rows(facts: LabelingFacts, project: Project) -> Iterator[CampaignRow]:
    """Every campaign with its counts, oldest first."""
    studio = project.label_studio_page
    for one in facts.campaigns:
        counts, spent = facts.states.get(one.id, {}), facts.by_campaign.get(one.id)
        yield CampaignRow(
            title=one.title,
            url=f"{studio}/projects/{one.external_project}/data" if one.is_used else None,
            audience=one.audience,
            state=one.state,
            num_open=counts.get("waiting", 0) + counts.get("sent", 0),
            num_done=counts.get("done", 0),
            num_withdrawn=counts.get("withdrawn", 0),
            num_refused=counts.get("refused", 0),
            money_per_label=spent.money_per_label if spent is not None else None,
        )
