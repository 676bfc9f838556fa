"""The evidence behind a decision as sheets: the e-values, the error budget, the parts of the error.

Shows stored numbers; the path of the e-value and the parts of the error come from the gate's own
functions. Nothing is decided here.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from flywheel.decide import decompose, e_values, taken_over
from flywheel.records import Array, Challenge, Decision, Report
from flywheel.report.kit import text
from flywheel.report.kit.tables import Sheet, facts_sheet
from flywheel.settings.judging import Gate


class Evidence(NamedTuple):
    """The e-value after each fresh label."""

    values: Array
    """(N,)"""
    needed: float


def evidence_of(report: Report, decision: Decision | None) -> Evidence | None:
    """Return the path of the e-value; None if no challenge was evaluated."""
    fresh = report.fresh
    if fresh is None or not fresh.gains:
        return None
    if decision is None or decision.needed_e_value is None:
        return None
    min_gain = float(decision.gate_settings["min_gain"])
    return Evidence(e_values(fresh, min_gain), decision.needed_e_value)


def budget_sheet(report: Report, decision: Decision | None) -> Sheet:
    """Return the challenge, its evidence, and what is left of the test set's error budget."""
    title = "Evidence and error budget"
    reuse = report.reuse
    if reuse.most_challenges == 0:
        none = "No error budget: an older version of flywheel made this report."
        return facts_sheet("evidence", title, [], none)
    num_fresh = len(report.fresh.gains) if report.fresh is not None else 0
    new = (
        f", {report.fresh.num_new:,} of them since the last look"
        if report.fresh is not None
        else ""
    )
    rows = [
        *_challenge_rows(report, decision),
        ("fresh labels", f"{num_fresh:,}{new}"),
        ("labels used before this challenge", f"{reuse.num_test - num_fresh:,}"),
        ("sealed labels, not seen by any decision", f"{reuse.num_sealed:,}"),
        ("mean uses of a label", f"{reuse.mean_uses:.1f} decisions"),
    ]
    note = ""
    if report.challenge is None and reuse.num_challenges >= reuse.most_challenges:
        note = "The error budget of this test set is spent. Fresh labels renew the test set."
    return Sheet(
        key="evidence",
        title=title,
        rows=tuple(rows),
        note=note,
        caption="The e-value after each fresh label, on a log scale. Evidence for a gain grows "
        "upwards; at the red dashed line, 1 / alpha, the candidate is promoted.",
    )


def error_sheet(report: Report) -> Sheet:
    """Return the parts of the error, and the next step that each suggests."""
    rows = tuple(
        (term.name, text.estimate(term.estimate), term.meaning, term.step)
        for term in decompose(report)
    )
    return Sheet(
        key="error",
        title="Error decomposition",
        headings=("part", "size [interval]", "meaning", "next step"),
        values=(1,),
        rows=rows,
        note="" if rows else f"The decomposition has {text.NOT_ENOUGH}.",
        caption="Parts of the error in units of the metric. Red: significantly above 0.",
    )


def budget_line(still: Sequence[Challenge], report: Report, gate: Gate) -> str:
    """Return the state of the error budget in one line; `still` are the open challenges."""
    reuse = report.reuse
    if still:
        number = 0 if report.fresh is None else len(report.fresh.gains)
        numbers = [str(challenge.number) for challenge in still]
        which = f"challenge {numbers[0]} of {gate.challenges} is"
        if len(numbers) > 1:
            which = f"challenges {', '.join(numbers)} of {gate.challenges} are"
        return f"{which} open since night {still[0].opened_night}, on {number:,} fresh labels"
    is_spent = reuse.most_challenges > 0 and reuse.num_challenges >= reuse.most_challenges
    needed = gate.renewal_samples if is_spent else gate.min_fresh_samples
    missing = max(needed - reuse.num_sealed, 0)
    state = "the test set is spent" if is_spent else "no challenge is open"
    used = f"{reuse.num_challenges} of {gate.challenges} used"
    verb = "renew it" if is_spent else "open the next"
    if not missing:
        return f"{state} ({used}); the next candidate may open one"
    return f"{state} ({used}); {missing:,} more labels of the probability share {verb}"


def _challenge_rows(report: Report, decision: Decision | None) -> list[tuple[str, str]]:
    challenge = report.challenge
    if challenge is None:
        reuse = report.reuse
        used = f"{reuse.num_challenges} of {reuse.most_challenges} of this test set are used"
        why = [("because", report.no_challenge)] if report.no_challenge else []
        return [("challenge", f"none is open; {used}"), *why]
    alpha = f"{challenge.alpha:.3g}"
    number = f"{challenge.number} of {report.reuse.most_challenges} of this test set"
    since = f"generation {challenge.generation}, open since night {challenge.opened_night}"
    rows = [("challenge", f"{number}, {since}")]
    if challenge.took_over:
        more = "for a candidate that was trained on at least twice as many"
        rows.append(("took over", f"the labels of {taken_over(challenge)}, {more}"))
    if decision is None:
        return [*rows, ("its share of the error budget", alpha)]
    total = decision.gate_settings.get("alpha")
    rows.append(("its share of the error budget", f"{alpha} of {total}" if total else alpha))
    if decision.e_value is not None and decision.needed_e_value is not None:
        bar = text.evidence_bar(decision.e_value, decision.needed_e_value)
        shown = f"{decision.e_value:.3g} of {decision.needed_e_value:.3g} needed"
        rows.append(("e-value", f"{shown} {bar}"))
    closed = "is decided or abandoned" if decision.closes_challenge else "goes on"
    return [*rows, ("after this night", f"the challenge {closed}")]
