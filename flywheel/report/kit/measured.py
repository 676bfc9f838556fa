"""The measurements of a report as sheets, for the pages of a step, a night and a decision.

Includes annotators as a human baseline in five tiers, with the cost of an answer as of now.
Reports of older versions lack some measurements; the sheets say so. Nothing is measured here.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np

from flywheel.annotate.cost import Costs, ratio, read_costs
from flywheel.collect import LEAST_EFFECT, Drift
from flywheel.decide import condition, significantly_misses, tightest_bound
from flywheel.decide.vetoes import usable
from flywheel.loop import Loop
from flywheel.records import Abstention, Entry, Estimate, Guarded, Report, RiskPoint, Watch, Watched
from flywheel.report.kit import text
from flywheel.report.kit.tables import Sheet, facts_sheet
from flywheel.settings.labeling import AnnotatorSettings

_LOST_SHOWN = 10
_INTERVALS = "Values with their intervals. The red dashed line is what the product requires, "
_INTERVALS += "if that is set; a hollow dot is not comparable."


def measured_sheets(report: Report) -> tuple[Sheet, ...]:
    """Return models and baselines, requirements, slices, start data, guarded cases, abstention."""
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
    """Return the production estimate in one line, and what averaging all labels would claim."""
    production = report.production
    if production is None:
        return (
            f"production: {text.NOT_ENOUGH}; it is estimated from labels of the "
            "probability share of the last nights"
        )
    parts = [f"production, whichever model answered: {text.estimate(production.estimate)}"]
    if production.assisted is not None:
        parts.append(f"assisted by unlabeled predictions {text.estimate(production.assisted)}")
    if production.naive is not None:
        naive = text.estimate(production.naive)
        parts.append(f"averaging all labels would have claimed {naive}")
    if production.unanswered:
        parts.append(f"{production.unanswered:.1%} is of samples that annotators could not label")
    if production.bounds is not None:
        low, high = map(text.number, production.bounds)
        parts[-1] += f", whatever they are it lies in {low} to {high}"
    nights = f"nights {production.first_night} to {production.last_night}"
    labels = f"{production.estimate.num_samples:,} labels"
    return f"{'; '.join(parts)} ({labels} of {production.num_population:,} predictions, {nights})"


def models_sheet(report: Report) -> Sheet:
    """Return what was compared, and by which metric."""
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
    named = "No baseline is measured yet, so there is no bound on the model."
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
            condition(watched),
            _state(report, watched),
            text.estimate(watched.candidate),
            text.estimate(watched.champion),
            text.estimate(watched.difference),
            watched.note,
        )
        for watched in report.watched
    )
    said = (
        "Missed and met are significant: the whole interval is on that side of the bound. Gains: "
        "positive is better; for ignored numbers, candidate minus champion."
    )
    return Sheet(
        key="watched",
        title="Requirements and ignored numbers",
        headings=("number", "state", "candidate", "champion", "gain [interval]", "note"),
        values=(2, 3, 4),
        rows=rows,
        note=said if rows else "No requirement is set. Add them to metric.require.",
    )


def _state(report: Report, watched: Watched) -> str:
    if watched.bound is None:
        return "ignored for now"
    known = usable(watched.candidate if report.candidate_digest is not None else watched.champion)
    if known is None:
        return "open, not measured"
    if significantly_misses(watched, known):
        return "missed"
    is_met = known.high < watched.bound if watched.is_upper else known.low > watched.bound
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
        note="" if rows else "The task defines no slices.",
        caption="Gain of the candidate on each slice; the intervals hold simultaneously. "
        "Red: significantly worse.",
    )


def _guarded_sheet(guarded: Guarded | None) -> Sheet:
    title = "Guarded failures"
    if guarded is None:
        none = "No case was evaluated: no fixed production failure is guarded yet, or a model is missing."
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
        ("regressions", lost),
    ]
    return facts_sheet("guarded", title, rows)


def _abstention_sheet(abstention: Abstention | None) -> Sheet:
    title = "Abstention: when to defer to the fallback"
    if abstention is None or not abstention.curve:
        return facts_sheet("abstention", title, [], f"The curve has {text.NOT_ENOUGH}.")
    return Sheet(
        key="abstention",
        title=title,
        rows=tuple(_abstention_rows(abstention)),
        caption="Failure rate over coverage: measured (solid) and its upper bound (dashed). Red: the "
        "allowed rate, and the threshold.",
    )


def _abstention_rows(abstention: Abstention) -> Iterator[tuple[str, str]]:
    allowed, sure = abstention.max_failure_rate, text.percent(abstention.confidence)
    if allowed is None:
        yield "allowed failure rate", "not set (abstain.max_failure_rate)"
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
    yield "coverage", text.percent(point.coverage)
    yield "failure rate", text.percent(point.failure_rate)
    yield "its upper bound", text.percent(point.failure_bound)


RANDOM, DOMAIN, DEEP = "random person", "domain expert", "deep expert"

_MEMBERS = {
    RANDOM: (RANDOM,),
    "ensemble of random people": (RANDOM,),
    DOMAIN: (DOMAIN,),
    DEEP: (DEEP,),
    "mixture of experts": (DOMAIN, DEEP),
}
_TOGETHER = ("ensemble of random people", "mixture of experts")


def tier_of(annotator: str, annotators: AnnotatorSettings) -> str:
    """Return the tier of an annotator by the [annotators] settings."""
    if annotator in annotators.deep_experts:
        return DEEP
    return DOMAIN if annotator in annotators.domain_experts else RANDOM


def tier_prices(costs: Costs, annotators: AnnotatorSettings) -> dict[str, Estimate]:
    """Map each tier to the cost of an answer of one member; tiers with too few answers are left out."""
    found = {}
    for tier, members in _MEMBERS.items():
        rows = [row for row in costs.rows if tier_of(row.work.annotator, annotators) in members]
        money = np.array([row.money for row in rows])
        price = ratio(money, np.array([float(row.work.is_given) for row in rows]))
        if price is not None:
            found[tier] = price
    return found


def annotators_sheet(loop: Loop, report: Report) -> Sheet:
    """Return `tiers_sheet` with the costs of now."""
    with loop.ledger.read() as connection:
        costs = read_costs(connection, loop.project)
    prices = tier_prices(costs, loop.project.annotators)
    return tiers_sheet(report, prices, loop.project.cost.currency)


def tiers_sheet(report: Report, prices: Mapping[str, Estimate], currency: str) -> Sheet:
    """Return the value of each tier, overall and by slice, and the cost of an answer."""
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
        title="Annotators by tier",
        headings=(
            "tier and slice",
            "value [interval]",
            "samples",
            f"{currency} per answer",
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
        return "This report has no tier of annotators."
    said = (
        f"The {report.metric} of annotators on the probability share, scored against the labels of "
        "other annotators. Mistakes of those count against a tier, so it reads lower than each annotator's own "
        "estimate."
    )
    if not report.people_slices:
        said += " No tier has enough answers for slices yet."
    return f"{said} Name experts in [annotators], and ask several annotators per sample, to measure more tiers."


def drift_line(drift: Drift | None) -> str:
    """Return in a sentence how far production has drifted from when the model was new."""
    failing = [_failing(one) for one in drift.watches if one.is_alarm] if drift is not None else []
    if drift is None or drift.distance is None or drift.low is None:
        said = f"{text.NOT_ENOUGH}; drift needs two nights of one model with enough predictions"
        return "; ".join(failing) or said
    distance = f"{drift.distance:.2f} (at least {drift.low:.2f})"
    if not drift.is_alarm:
        return f"no significant drift: {drift.feature} has moved most, by {distance}"
    moved = f"{drift.feature} has moved by {distance}" if drift.low > LEAST_EFFECT else ""
    said = "; ".join(filter(None, [moved, *failing]))
    return (
        f"production drifts: {said} since the model was new; {len(drift.where):,} samples from where it is "
        "are suspects now, so that labels show whether it matters"
    )


def _failing(one: Watch) -> str:
    where = f" on {one.name}" if one.name else ""
    return (
        f"answers{where} fail more often, {one.num_new_failed:,} of {one.num_new:,} against "
        f"{one.num_reference_failed:,} of {one.num_reference:,} when the model was new"
    )
