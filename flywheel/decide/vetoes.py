"""The hard conditions: what keeps a candidate back, however much better it is on the whole.

Each looks at the frozen test set, which is looked at every night; so they can only ever hold a
candidate back, never promote one. Refuses to weigh one against another.

What a report says, in the terms of the gate: usable numbers, gaps, sentences about them.

An estimate with a NaN in it is no estimate. Refuses to know verdicts.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from flywheel.records import Entry, Estimate, Report, Watched
from flywheel.settings.judging import Gate


def usable(estimate: Estimate | None) -> Estimate | None:
    """The estimate, or None when one of its numbers is NaN or infinite."""
    if estimate is None:
        return None
    numbers = (estimate.value, estimate.low, estimate.high)
    return estimate if all(math.isfinite(number) for number in numbers) else None


def measured(entries: Sequence[Entry], name: str, *, is_kind: bool = False) -> Estimate | None:
    """The estimate of the first entry of a name, or of a kind, that has one."""
    for entry in entries:
        estimate = usable(entry.metric)
        if estimate is not None and name == (entry.kind if is_kind else entry.name):
            return estimate
    return None


def above(value: float, bound: float, *, higher_is_better: bool) -> float:
    """By how much a value is better than a bound; negative when it is worse."""
    return value - bound if higher_is_better else bound - value


def format_estimate(estimate: Estimate) -> str:
    """The number with its interval and its samples, in words."""
    return (
        f"{estimate.value:.3g} ({estimate.low:.3g} to {estimate.high:.3g}, "
        f"{estimate.num_samples} samples)"
    )


_LATENCY = "latency_ms."


def vetoes(report: Report, gate: Gate) -> list[str]:
    """Every condition that the candidate surely breaks."""
    if report.candidate_digest is None:
        return []
    return [
        *_requirements(report, gate),
        *_regressions(report, gate),
        *_guarded(report, gate),
    ]


def unmeasured(report: Report) -> list[str]:
    """Every requirement that could not be measured; nobody can say whether it is kept."""
    if report.candidate_digest is None:
        return []
    return [
        f"requirement {condition(one)} could not be measured: {one.note or 'no number'}"
        for one in report.watched
        if one.bound is not None and usable(one.candidate) is None
    ]


def condition(watched: Watched) -> str:
    """The requirement as a person writes it."""
    sign = "<" if watched.is_upper else ">"
    return (
        watched.formula if watched.bound is None else f"{watched.formula} {sign} {watched.bound:g}"
    )


def significantly_misses(watched: Watched, known: Estimate | None) -> bool:
    """Whether the whole interval lies on the wrong side of the bound."""
    number = usable(known)
    if number is None or watched.bound is None:
        return False
    return number.low > watched.bound if watched.is_upper else number.high < watched.bound


def _requirements(report: Report, gate: Gate) -> list[str]:
    """Feasibility first (Deb 2000): no requirement that is kept is given up for the metric.

    While the champion itself surely misses one, a candidate need not keep it yet, but it must
    not be surely worse there; strict_requirements demands it at once. The first model has only
    the latency to keep: labels will not make it faster.
    """
    broken = []
    for one in report.watched:
        if not significantly_misses(one, one.candidate):
            continue
        is_latency = one.formula.startswith(_LATENCY)
        if report.champion_digest is None and not (gate.strict_requirements or is_latency):
            continue
        number = format_estimate(one.candidate) if one.candidate is not None else "no number"
        difference = usable(one.difference)
        if gate.strict_requirements or not significantly_misses(one, one.champion):
            broken.append(f"surely misses the requirement {condition(one)}: {number}")
        elif difference is not None and difference.high < 0:
            broken.append(
                f"surely further from the requirement {condition(one)} than the champion: {number}"
            )
    return broken


def _regressions(report: Report, gate: Gate) -> list[str]:
    """Slices and the start data, on which it must not be surely worse by more than the margin."""
    parts = [("the held-out start data", report.start_difference, gate.slice_margin)]
    for part in report.slices:
        margin = 0.0 if part.name in gate.protected_slices else gate.slice_margin
        parts.append((f"slice {part.name!r}", part.difference, margin))
    broken = []
    for name, difference, margin in parts:
        known = usable(difference)
        if known is not None and known.high < -margin:
            by = f" by more than {margin:g}" if margin else ""
            broken.append(f"surely worse{by} on {name}: its gain is {format_estimate(known)}")
    return broken


def _guarded(report: Report, gate: Gate) -> list[str]:
    guarded = report.guarded
    if guarded is None or guarded.num_kept_by_champion == 0:
        return []
    kept = 1 - guarded.num_lost / guarded.num_kept_by_champion
    if kept >= gate.guarded_share:
        return []
    broken = (
        f"fails {guarded.num_lost} of {guarded.num_kept_by_champion} guarded failures that the "
        f"champion answers right ({', '.join(name[:12] for name in guarded.lost[:3])}): it keeps "
        f"{kept:.0%}, {gate.guarded_share:.0%} are needed"
    )
    return [broken]
