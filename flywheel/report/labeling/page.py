"""Writes the labeling page: annotators, their quality and cost, the queue, and next steps.

One self-contained HTML file with its charts. It describes the project as of now, not one night. Each
next step states a finding with its numbers and what helps; the most urgent comes first. All annotators
are also one table (notebook, CSV file), where what is not known is missing, never 0. Charts draw the
values they are given; nothing is measured here.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from flywheel.annotate.queue import EVERYWHERE
from flywheel.annotators.anchoring import Anchoring
from flywheel.loop import Loop
from flywheel.project import Project
from flywheel.records import Entry, Estimate
from flywheel.report.kit.charts import Ink, canvas, interval_chart, short_name, to_svg
from flywheel.report.kit.measured import tiers_sheet
from flywheel.report.kit.pages import put, render
from flywheel.report.labeling.facts import (
    Annotator,
    LabelingFacts,
    Quality,
    read_labeling,
    read_quality,
)
from flywheel.report.labeling.sheets import (
    anchoring_sheet,
    annotator_sheets,
    budget_sheet,
    cost_sheets,
    disputed_sheet,
    queue_sheet,
)

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

_DAY_SECONDS = 86_400


class Flag(NamedTuple):
    """A finding about one annotator, or about a group of them."""

    annotators: tuple[str, ...]
    what: str
    """guesses, anchored or colluding"""
    why: str

    @property
    def who(self) -> str:
        """Their names, joined."""
        return " and ".join(self.annotators)


def next_steps(facts: LabelingFacts, quality: Quality, project: Project) -> list[str]:
    """Return the next steps, at least one sentence."""
    found = [
        *_about_annotators(facts, quality, project),
        *_about_money(facts, project),
        *_about_samples(facts, project),
    ]
    return found or ["No issues: annotators agree, the budgets hold and the queue is moving"]


def flags(facts: LabelingFacts, quality: Quality, project: Project) -> list[Flag]:
    """Return the flagged annotators, with the kind of flag and its evidence."""
    found = []
    for annotator in facts.annotators:
        known = annotator.measured
        is_low = bool(known and known.high < project.labeling.min_reliability)
        if known and known.num_answers and (is_low or annotator.name in quality.guessing):
            sure = f"{known.reliability:.2f} [{known.low:.2f}, {known.high:.2f}]"
            why = f"right in {sure} of {known.num_answers:,} answers"
            found.append(Flag((annotator.name,), "guesses", why))
        if annotator.name in quality.anchored:
            found.append(
                Flag((annotator.name,), "anchored", _anchored(quality.anchored[annotator.name]))
            )
    together = "copy one another's answers and count as one annotator"
    return found + [Flag(group, "colluding", together) for group in quality.colluding]


def _anchored(known: Anchoring) -> str:
    points = f"{100 * known.difference:.0f} [{100 * known.low:.0f}, {100 * known.high:.0f}] points"
    return (
        f"agrees with the model {points} more often when its answer is shown "
        f"({known.num_shown:,} answers) than blind ({known.num_blind:,})"
    )


def _about_annotators(facts: LabelingFacts, quality: Quality, project: Project) -> Iterator[str]:
    where = _where_blind(quality)
    helps = {
        "guesses": "their answers get little weight; review the instructions with them, or replace them",
        "anchored": f"pre-annotation is off {where}"
        if where
        else "ask them to answer before they look, or raise quality.blind_share",
        "colluding": "let them work independently",
    }
    for flag in flags(facts, quality, project):
        verb = "is " if flag.what == "guesses" else ""
        yield f"{flag.who} {verb}{flag.why}: {helps[flag.what]}"
    if where and not quality.anchored:
        yield f"Annotators follow the model's answer too often: pre-annotation is off {where}"
    for annotator in facts.annotators:
        if annotator.count.num_refused > annotator.count.num_answers:
            yield (
                f"{annotator.count.num_refused} annotations by {annotator.name} are no answers of the "
                "task: the page of the ingest step in Prefect has the reasons"
            )
    has_gold = project.quality.gold_share > 0 or any(
        annotator.num_gold for annotator in facts.annotators
    )
    if facts.annotators and not has_gold:
        yield "No gold questions are asked: set quality.gold_share, such as 0.05, to measure annotators"


def _where_blind(quality: Quality) -> str:
    if EVERYWHERE in quality.blinded:
        return "everywhere"
    names = ", ".join(sorted(quality.blinded))
    return f"in slice {names}" if names else ""


def _about_money(facts: LabelingFacts, project: Project) -> Iterator[str]:
    budget, currency = facts.budget, project.cost.currency
    for allowance, name, key in (
        (budget.tonight, f"night {budget.night}", "per_night"),
        (budget.this_month, budget.month, "per_month"),
    ):
        if allowance.limit is None or allowance.left is None:
            continue
        if budget.prices and allowance.left < min(price.most for price in budget.prices.values()):
            yield (
                f"The budget of {name} is used up ({allowance.spent + allowance.committed:,.2f} of "
                f"{allowance.limit:,.2f} {currency}): nothing new is sent; raise cost.{key} or wait"
            )


def _about_samples(facts: LabelingFacts, project: Project) -> Iterator[str]:
    if facts.num_disputed and not project.annotators.experts:
        yield (
            f"{facts.num_disputed} samples are disputed and no expert is named to settle them: "
            "write their e-mails to annotators.domain_experts or annotators.deep_experts"
        )
    waiting = facts.reviews.get("sent", 0)
    if waiting:
        yield f"{waiting} samples wait for the experts: {', '.join(sorted(project.annotators.experts))}"
    oldest, ageing = facts.queue.oldest, project.labeling.ageing_nights
    if oldest is not None:
        nights = (facts.written_at - oldest).total_seconds() / _DAY_SECONDS
        if nights > 2 * ageing:
            yield (
                f"A sample has waited {nights:.0f} nights: annotators are asked for more than they "
                "answer; ask more annotators, or lower labeling.samples_per_night"
            )
    for campaign in facts.campaigns:
        if campaign.state == "lost":
            yield (
                f"Project {campaign.title!r} was deleted in Label Studio: what it had not finished "
                "is sent again"
            )


def annotator_frame(facts: LabelingFacts, quality: Quality, flags: list[Flag]) -> pd.DataFrame:
    """Return all annotators, indexed by name, most answers first.

    Columns: tier; answers, skipped, refused; minutes (per answer) with _low and _high, money; right,
    the probability that an answer is right, with _low and _high; gold, gold_right;
    shown_minus_blind, how much more often the model's answer is given when it is shown, with _low
    and _high; flags.
    """
    import pandas as pd  # noqa: PLC0415 - a second with pyarrow, and a night needs none

    rows = [_row(annotator, quality, flags) for annotator in facts.annotators]
    frame = pd.DataFrame(
        rows, columns=_COLUMNS, index=[annotator.name for annotator in facts.annotators]
    )
    frame.index.name = "person"
    return frame.convert_dtypes()


def _row(annotator: Annotator, quality: Quality, flags: list[Flag]) -> dict[str, Any]:
    row: dict[str, Any] = dict.fromkeys(_COLUMNS)
    row |= {
        "tier": annotator.tier,
        "answers": annotator.count.num_answers,
        "skipped": annotator.count.num_skipped,
        "refused": annotator.count.num_refused,
        "gold": annotator.num_gold,
        "gold_right": annotator.num_gold_right,
        "flags": " ".join(flag.what for flag in flags if annotator.name in flag.annotators) or None,
    }
    if annotator.expense is not None:
        row["money"] = annotator.expense.money
        row |= _interval("minutes", annotator.expense.minutes_per_answer, "value")
    if annotator.measured is not None and annotator.measured.num_answers:
        row |= _interval("right", annotator.measured, "reliability")
    return row | _interval(
        "shown_minus_blind", quality.annotators.get(annotator.name), "difference"
    )


def _interval(name: str, known: Any, value: str) -> dict[str, float | None]:
    names = (name, f"{name}_low", f"{name}_high")
    if known is None:
        return dict.fromkeys(names)
    return dict(zip(names, (getattr(known, value), known.low, known.high), strict=True))


_COLUMNS = [
    "tier",
    "answers",
    "skipped",
    "refused",
    *(f"minutes{end}" for end in ("", "_low", "_high")),
    "money",
    *(f"right{end}" for end in ("", "_low", "_high")),
    "gold",
    "gold_right",
    *(f"shown_minus_blind{end}" for end in ("", "_low", "_high")),
    "flags",
]


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
    charts = draw_annotators(facts.annotators, loop.project.labeling.min_reliability)
    values = labeling_values(loop, facts, read_quality(loop))
    page = render("labeling.html", layout="export.html", charts=charts, link=None, **values)
    return put(loop.project.state / "reports" / LABELING_PAGE, page)


def labeling_values(loop: Loop, facts: LabelingFacts, quality: Quality) -> dict[str, Any]:
    """Return what the template shows, but for its charts."""
    project = loop.project
    currency = project.cost.currency
    return {
        "project": project,
        "facts": facts,
        "currency": currency,
        "next_steps": next_steps(facts, quality, project),
        "flags": flags(facts, quality, project),
        "annotators": annotator_sheets(facts, quality, currency),
        "anchoring": anchoring_sheet(quality),
        "campaigns": list(campaign_rows(facts, project)),
        "queue": queue_sheet(facts, project),
        "disputed": disputed_sheet(facts),
        "budget": budget_sheet(facts, currency),
        "costs": cost_sheets(facts, currency),
        "tiers": tiers_sheet(facts.report, facts.tiers, currency) if facts.report else None,
    }


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
