"""Vetoes: hard conditions that reject a candidate, however much better it is overall.

They read the frozen test set, which is looked at every night; therefore they can only reject a
candidate, never promote one. The file also holds the helpers with which the gate reads a report:
usable numbers, margins, and an estimate as text.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

from flywheel.metrics.eprocess import e_value
from flywheel.records import Entry, Estimate, FreshOutcomes, Report, Watched
from flywheel.settings.judging import Gate

_LATENCY = "latency_ms."
_FEW_GOLD = 4
"""gold answers of several annotators below which they say nothing"""
_MEASURE = (
    "gold questions of the next nights will show whether the labels are right. To have them sooner, "
    "raise quality.gold_share, ask two annotators about a sample, or name experts in [annotators]"
)


def usable(estimate: Estimate | None) -> Estimate | None:
    """The estimate; None when one of its numbers is NaN or infinite."""
    if estimate is None:
        return None
    numbers = (estimate.value, estimate.low, estimate.high)
    return estimate if all(math.isfinite(number) for number in numbers) else None


def measured(entries: Sequence[Entry], name: str, *, is_kind: bool = False) -> Estimate | None:
    """The first usable estimate among the entries of a name, or of a kind."""
    for entry in entries:
        estimate = usable(entry.metric)
        if estimate is not None and name == (entry.kind if is_kind else entry.name):
            return estimate
    return None


def above(value: float, bound: float, *, higher_is_better: bool) -> float:
    """By how much a value is better than a bound, in units of the metric; negative when it is worse."""
    return value - bound if higher_is_better else bound - value


def format_estimate(estimate: Estimate) -> str:
    """The value with its interval and number of samples, as text."""
    return (
        f"{estimate.value:.3g} ({estimate.low:.3g} to {estimate.high:.3g}, "
        f"{estimate.num_samples} samples)"
    )


def vetoes(report: Report, gate: Gate) -> list[str]:
    """Every condition that the candidate significantly breaks, as sentences."""
    if report.candidate_digest is None:
        return []
    return [
        *_requirements(report, gate),
        *_regressions(report, gate),
        *_guarded(report, gate),
    ]


def unmeasured(report: Report) -> list[str]:
    """Every requirement that could not be measured, as sentences."""
    if report.candidate_digest is None:
        return []
    return [
        f"requirement {condition(watched)} could not be measured: {watched.note or 'no number'}"
        for watched in report.watched
        if watched.bound is not None and usable(watched.candidate) is None
    ]


def on_trust(report: Report, gate: Gate) -> list[str]:
    """Why the evidence rests on the word of annotators who are not measured, as sentences.

    One of them may have given most of the fresh labels, all of them together may have with gold
    answers that are no better than guessing, or the labels of the others may speak against.
    """
    fresh = report.fresh
    if fresh is None:
        return []
    total = len(fresh.gains)
    for one in report.unmeasured:
        said = (
            f"{one.annotator} alone gave {len(one.labels)} of {total} fresh labels and answered "
            f"{one.num_gold_right} of {one.num_gold} gold questions right"
        )
        if 2 * len(one.labels) > total:
            return [f"{said}; {_MEASURE}"]
        rest = e_value(without(fresh, one.labels), gate.min_gain)
        if rest < 1:
            return [f"{said}, and the other labels speak against a gain; {_MEASURE}"]
    num_labels = sum(len(one.labels) for one in report.unmeasured)
    num_gold = sum(one.num_gold for one in report.unmeasured)
    num_right = sum(one.num_gold_right for one in report.unmeasured)
    if 2 * num_labels > total and (num_gold < _FEW_GOLD or 2 * num_right <= num_gold):
        gave = f"alone gave {num_labels} of {total} fresh labels"
        answered = f"answered {num_right} of {num_gold} gold questions right"
        return [f"{len(report.unmeasured)} annotators {gave} and {answered}; {_MEASURE}"]
    return []


def without(fresh: FreshOutcomes, labels: Sequence[int]) -> FreshOutcomes:
    """The fresh outcomes without those at some places."""
    left = sorted(set(range(len(fresh.gains))) - set(labels))
    return replace(
        fresh,
        gains=tuple(fresh.gains[place] for place in left),
        scales=tuple(fresh.scales[place] for place in left),
        num_new=min(fresh.num_new, len(left)),
    )


def condition(watched: Watched) -> str:
    """The requirement as it is written in flywheel.toml; the formula alone when it has no bound."""
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


def _is_open(watched: Watched, known: Estimate | None) -> bool:
    """Whether the bound lies in the interval, so that the requirement may be met or not."""
    number = usable(known)
    return (
        number is not None
        and watched.bound is not None
        and number.low <= watched.bound <= number.high
    )


def _requirements(report: Report, gate: Gate) -> list[str]:
    """Vetoes of requirements, feasibility first: none that is met is given up for the metric.

    While the champion itself significantly misses one, a candidate need not meet it yet, but must
    not be significantly worse there; while it is open whether the champion meets it, a candidate
    must be no further off by what was measured. strict_requirements demands it at once. The first
    model has to meet latency only, which more labels would not improve.
    Source: Deb, An efficient constraint handling method for genetic algorithms (2000).
    """
    broken = []
    for watched in report.watched:
        if not significantly_misses(watched, watched.candidate):
            continue
        is_latency = watched.formula.startswith(_LATENCY)
        if report.champion_digest is None and not (gate.strict_requirements or is_latency):
            continue
        number = (
            format_estimate(watched.candidate) if watched.candidate is not None else "no number"
        )
        difference, is_open = usable(watched.difference), _is_open(watched, watched.champion)
        if is_open and not gate.strict_requirements and difference and difference.value >= 0:
            continue
        if gate.strict_requirements or not significantly_misses(watched, watched.champion):
            broken.append(f"significantly misses the requirement {condition(watched)}: {number}")
        elif difference is not None and difference.high < 0:
            broken.append(
                f"significantly further from the requirement {condition(watched)} than the champion: "
                f"{number}"
            )
    return broken


def _regressions(report: Report, gate: Gate) -> list[str]:
    """Vetoes of slices and start data on which it is significantly worse by more than the margin."""
    parts = [("the held-out start data", report.start_difference, gate.slice_margin)]
    for part in report.slices:
        margin = 0.0 if part.name in gate.protected_slices else gate.slice_margin
        parts.append((f"slice {part.name!r}", part.difference, margin))
    broken = []
    for name, difference, margin in parts:
        known = usable(difference)
        if known is not None and known.high < -margin:
            by = f" by more than {margin:g}" if margin else ""
            broken.append(
                f"significantly worse{by} on {name}: its gain is {format_estimate(known)}"
            )
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
