"""People as a baseline: how good each of the five tiers is, slice by slice, and what an answer costs.

The values are those of a report, the costs those of the ledger when a page is written. Nothing is
measured here.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from flywheel.annotate.cost import Costs, ratio, read_costs
from flywheel.loop import Loop
from flywheel.records import Estimate, Report
from flywheel.report import text
from flywheel.report.sheets import Sheet
from flywheel.settings.labeling import People

RANDOM, DOMAIN, DEEP = "random person", "domain expert", "deep expert"

_MEMBERS = {
    RANDOM: (RANDOM,),
    "ensemble of random people": (RANDOM,),
    DOMAIN: (DOMAIN,),
    DEEP: (DEEP,),
    "mixture of experts": (DOMAIN, DEEP),
}
_TOGETHER = ("ensemble of random people", "mixture of experts")


def tier_of(person: str, people: People) -> str:
    """What a person knows, as [people] says."""
    if person in people.deep_experts:
        return DEEP
    return DOMAIN if person in people.domain_experts else RANDOM


def tier_prices(costs: Costs, people: People) -> dict[str, Estimate]:
    """What an answer of one member of each tier costs; tiers with too few answers are missing."""
    found = {}
    for tier, members in _MEMBERS.items():
        rows = [one for one in costs.rows if tier_of(one.work.annotator, people) in members]
        money = np.array([one.money for one in rows])
        price = ratio(money, np.array([float(one.work.is_given) for one in rows]))
        if price is not None:
            found[tier] = price
    return found


def people_sheet(loop: Loop, report: Report) -> Sheet:
    """`tiers_sheet` with the prices of now."""
    with loop.ledger.read() as connection:
        costs = read_costs(connection, loop.project)
    prices = tier_prices(costs, loop.project.people)
    return tiers_sheet(report, prices, loop.project.cost.currency)


def tiers_sheet(report: Report, prices: Mapping[str, Estimate], currency: str) -> Sheet:
    """Every tier over all and on every slice, each with its interval, and what an answer costs."""
    rows = []
    for entry in report.entries:
        if entry.kind != "human":
            continue
        cost = _cost(entry.name, prices)
        samples = f"{entry.metric.num_samples:,}" if entry.metric is not None else "-"
        rows.append((entry.name, text.estimate(entry.metric), samples, cost))
        rows += [
            (f"on {part.name}", text.estimate(part.metric), f"{part.num_samples:,}", "")
            for part in report.people_slices
            if part.tier == entry.name
        ]
    return Sheet(
        key="tiers",
        title="People, tier by tier",
        headings=(
            "who, and on which slice",
            "value [interval]",
            "samples",
            f"{currency} an answer",
        ),
        values=(1, 2, 3),
        rows=tuple(rows),
        note=_note(report, has_rows=bool(rows)),
    )


def _cost(tier: str, prices: Mapping[str, Estimate]) -> str:
    known = text.estimate(prices.get(tier))
    return f"{known} each" if tier in _TOGETHER and tier in prices else known


def _note(report: Report, *, has_rows: bool) -> str:
    if not has_rows:
        return "No tier of people is in this report."
    said = (
        f"What people's answers reach of {report.metric} on the probability share, held against "
        "those of other people."
    )
    if not report.people_slices:
        said += " No tier has answers enough for its slices yet."
    return f"{said} Name experts in [people], and ask several people, to measure more tiers."
