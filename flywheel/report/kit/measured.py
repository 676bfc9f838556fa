"""What a report has measured, in words and sheets: for the pages of a step, a night, a decision.

Reports of older versions lack much of it; what is missing is said. Nothing is measured here.

People as a baseline: how good each of the five tiers is, slice by slice, and what an answer costs.

The values are those of a report, the costs those of the ledger when a page is written. Nothing is
measured here.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np

from flywheel.annotate.cost import Costs, ratio, read_costs
from flywheel.decide import condition, significantly_misses, tightest_bound
from flywheel.decide.vetoes import usable
from flywheel.loop import Loop
from flywheel.records import Abstention, Entry, Estimate, Guarded, Report, RiskPoint, Watched
from flywheel.report.kit import text
from flywheel.report.kit.tables import Sheet, facts_sheet
from flywheel.settings.labeling import AnnotatorSettings

_LOST_SHOWN = 10
_INTERVALS = "Values with their intervals. The red dashed line is what the product requires, "
_INTERVALS += "where that is set; a hollow dot is not comparable."


def measured_sheets(report: Report) -> tuple[Sheet, ...]:
    """Everyone on the test set, requirements, slices, the start data, guarded cases, deferring."""
    return (
        _entries_sheet(report),
        _watched_sheet(report),
        _slices_sheet(report),
        Sheet(
            key="start_entries",
            title="On the held-out start data",
            headings=("who", "kind", "value [interval]", "samples", "note"),
            values=(2, 3),
            rows=tuple(_entry_row(entry, None) for entry in report.start_entries),
            note=f"Candidate minus champion: {text.estimate(report.start_difference)}.",
            caption=_INTERVALS,
        ),
        _guarded_sheet(report.guarded),
        _abstention_sheet(report.abstention),
    )


def production_line(report: Report) -> str:
    """The number of the night, with what the labels alone would have made of it."""
    production = report.production
    if production is None:
        return (
            f"production today: {text.NOT_ENOUGH}; labels of the probability share of the last "
            "nights give it"
        )
    parts = [f"production today: {text.estimate(production.estimate)}"]
    if production.assisted is not None:
        parts.append(f"assisted by unlabeled predictions {text.estimate(production.assisted)}")
    if production.naive is not None:
        naive = text.estimate(production.naive)
        parts.append(f"averaging all labels would have claimed {naive}")
    nights = f"nights {production.first_night} to {production.last_night}"
    labels = f"{production.estimate.num_samples:,} labels"
    return f"{'; '.join(parts)} ({labels} of {production.num_population:,} predictions, {nights})"


def models_sheet(report: Report) -> Sheet:
    """What was compared with what, by which metric."""
    direction = "higher" if report.higher_is_better else "lower"
    rows = [
        ("metric", f"{report.metric}, {direction} is better"),
        ("candidate", text.digest(report.candidate_digest)),
        ("champion", text.digest(report.champion_digest)),
        ("dataset version", text.digest(report.dataset_id)),
        ("test set", text.digest(report.test_set_digest)),
    ]
    return facts_sheet("models", "Measured", rows)


def _entries_sheet(report: Report) -> Sheet:
    bound = tightest_bound(report.entries, higher_is_better=report.higher_is_better)
    difference = text.estimate(report.difference)
    latency = report.latency_p95_ms
    fast = "not measured" if latency is None else f"{latency:.1f} ms"
    named = "No baseline is measured yet, so nothing bounds the model."
    if bound is not None:
        named = f"The tightest bound is {bound.name} ({bound.kind}), {text.estimate(bound.metric)}."
    return Sheet(
        key="entries",
        title="On the frozen test set",
        headings=("who", "kind", "value [interval]", "samples", "note"),
        values=(2, 3),
        rows=tuple(_entry_row(entry, bound) for entry in report.entries),
        note=(
            f"{named} Candidate minus champion, paired, positive is better: {difference}. "
            f"Latency of the candidate, 95th percentile: {fast}."
        ),
        caption=_INTERVALS,
    )


def _entry_row(entry: Entry, bound: Entry | None) -> tuple[str, ...]:
    known = entry.metric
    marks = [] if entry.is_fair else ["not comparable"]
    marks += ["tightest bound"] if entry is bound else []
    marks += [entry.note] if entry.note else []
    samples = f"{known.num_samples:,}" if known is not None and known.num_samples else "-"
    return (entry.name, entry.kind, text.estimate(known), samples, "; ".join(marks))


def _watched_sheet(report: Report) -> Sheet:
    rows = tuple(
        (
            condition(one),
            _state(report, one),
            text.estimate(one.candidate),
            text.estimate(one.champion),
            text.estimate(one.difference),
            one.note,
        )
        for one in report.watched
    )
    said = (
        "Missed and met are sure: the whole interval lies there. Gains: positive is better; of what "
        "is ignored, candidate minus champion."
    )
    return Sheet(
        key="watched",
        title="Requirements, and what is ignored for now",
        headings=("number", "state", "candidate", "champion", "gain [interval]", "note"),
        values=(2, 3, 4),
        rows=rows,
        note=said
        if rows
        else "No requirement is set beside the metric: metric.require names them.",
    )


def _state(report: Report, one: Watched) -> str:
    if one.bound is None:
        return "ignored for now"
    known = usable(one.candidate if report.candidate_digest is not None else one.champion)
    if known is None:
        return "open, not measured"
    if significantly_misses(one, known):
        return "missed"
    is_met = known.high < one.bound if one.is_upper else known.low > one.bound
    return "met" if is_met else "open"


def _slices_sheet(report: Report) -> Sheet:
    rows = tuple(
        (
            part.name,
            text.estimate(part.candidate),
            text.estimate(part.champion),
            text.estimate(part.difference),
            f"{part.num_samples:,}",
        )
        for part in report.slices
    )
    headings = ("slice", "candidate", "champion", "candidate minus champion [interval]", "samples")
    return Sheet(
        key="slices",
        title="Slices",
        headings=headings,
        values=(1, 2, 3, 4),
        rows=rows,
        note="" if rows else "The task names no slices.",
        caption="Gain of the candidate on each slice; all the intervals hold together. "
        "Red: surely worse.",
    )


def _guarded_sheet(guarded: Guarded | None) -> Sheet:
    title = "Guarded failures"
    if guarded is None:
        none = (
            "No case was asked: no fixed production failure is guarded yet, or a model is missing."
        )
        return facts_sheet("guarded", title, [], none)
    lost = f"{guarded.num_lost:,}"
    if guarded.lost:
        shown = ", ".join(text.digest(name) for name in guarded.lost[:_LOST_SHOWN])
        more = guarded.num_lost - min(len(guarded.lost), _LOST_SHOWN)
        lost += f": {shown}" + (f" and {more} more" if more else "")
    rows = [
        ("cases", f"{guarded.num_cases:,}"),
        ("answered right by the candidate", f"{guarded.num_kept:,}"),
        ("answered right by the champion", f"{guarded.num_kept_by_champion:,}"),
        ("right before, wrong now", lost),
    ]
    return facts_sheet("guarded", title, rows)


def _abstention_sheet(abstention: Abstention | None) -> Sheet:
    title = "When to defer to the fallback"
    if abstention is None or not abstention.curve:
        return facts_sheet("abstention", title, [], f"The curve has {text.NOT_ENOUGH}.")
    return Sheet(
        key="abstention",
        title=title,
        rows=tuple(_abstention_rows(abstention)),
        caption="Failures among what is answered, over the share that is answered: measured "
        "(solid) and their upper bound (dashed). Red: what the product allows, and the threshold.",
    )


def _abstention_rows(abstention: Abstention) -> Iterator[tuple[str, str]]:
    allowed, sure = abstention.max_failure_rate, text.percent(abstention.confidence)
    if allowed is None:
        yield "allowed failure rate", "none is set: abstain.max_failure_rate"
    else:
        yield "allowed failure rate", f"{text.percent(allowed)}, kept with {sure} confidence"
    every = min(abstention.curve, key=lambda point: point.threshold)
    threshold = abstention.threshold
    if threshold is not None:
        yield "defer below confidence", text.number(threshold)
        kept = [point for point in abstention.curve if point.threshold >= threshold]
        yield from _risk_rows(min(kept, key=lambda point: point.threshold) if kept else every)
    elif allowed is not None:
        yield "defer below confidence", "no threshold keeps the failure rate"
    failing = f"{text.percent(every.failure_rate)}, at most {text.percent(every.failure_bound)}"
    yield f"failures with {text.percent(every.coverage)} answered", failing


def _risk_rows(point: RiskPoint) -> Iterator[tuple[str, str]]:
    yield "share that is answered then", text.percent(point.coverage)
    yield "failures among it", text.percent(point.failure_rate)
    yield "their upper bound", text.percent(point.failure_bound)


RANDOM, DOMAIN, DEEP = "random person", "domain expert", "deep expert"

_MEMBERS = {
    RANDOM: (RANDOM,),
    "ensemble of random people": (RANDOM,),
    DOMAIN: (DOMAIN,),
    DEEP: (DEEP,),
    "mixture of experts": (DOMAIN, DEEP),
}
_TOGETHER = ("ensemble of random people", "mixture of experts")


def tier_of(person: str, annotators: AnnotatorSettings) -> str:
    """What a person knows, as [annotators] says."""
    if person in annotators.deep_experts:
        return DEEP
    return DOMAIN if person in annotators.domain_experts else RANDOM


def tier_prices(costs: Costs, annotators: AnnotatorSettings) -> dict[str, Estimate]:
    """What an answer of one member of each tier costs; tiers with too few answers are missing."""
    found = {}
    for tier, members in _MEMBERS.items():
        rows = [one for one in costs.rows if tier_of(one.work.annotator, annotators) in members]
        money = np.array([one.money for one in rows])
        price = ratio(money, np.array([float(one.work.is_given) for one in rows]))
        if price is not None:
            found[tier] = price
    return found


def annotators_sheet(loop: Loop, report: Report) -> Sheet:
    """`tiers_sheet` with the prices of now."""
    with loop.ledger.read() as connection:
        costs = read_costs(connection, loop.project)
    prices = tier_prices(costs, loop.project.annotators)
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
    return (
        f"{said} Name experts in [annotators], and ask several annotators, to measure more tiers."
    )
