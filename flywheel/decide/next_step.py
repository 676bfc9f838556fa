"""The recommended next step, derived from a report, in one or two sentences.

The same model beside another baseline calls for another step: this names the back edge of the
project's life cycle that the numbers point to.
"""

from __future__ import annotations

from collections.abc import Sequence

from flywheel.decide.decomposition import STRONG, Term, decompose, reference
from flywheel.decide.vetoes import (
    above,
    condition,
    format_estimate,
    measured,
    significantly_misses,
    usable,
)
from flywheel.records import Entry, Estimate, Report, Watched
from flywheel.settings.judging import Gate, Metric

_PLAN, _COLLECT, _TRAIN = (
    "planning and set-up",
    "data collection and labeling",
    "training and debugging",
)
_EDGES = {
    "Set metric.requirement": _PLAN,
    "Ask for more": _PLAN,
    "Get better labels, or revisit": _PLAN,
    "Work on": _TRAIN,
    "Tune the model": _TRAIN,
    "Collect test labels": _COLLECT,
    "Add training data": _COLLECT,
    "Label more failures": _COLLECT,
    "Renew the test set": _COLLECT,
}
"""how a next step begins -> the part of the life cycle that it goes back to"""


def goes_back_to(step: str) -> str:
    """Return the part of the life cycle that a next step goes back to.

    Raises:
        ValueError: it is no step of `next_step`.
    """
    for begins, part in _EDGES.items():
        if step.startswith(begins):
            return part
    raise ValueError(f"{step[:40]!r} is no next step. Give what next_step returns")


def next_step(report: Report, metric: Metric, gate: Gate) -> str:
    """What to do next: collect, label, tune, add data, renew the test set, or aim higher.

    Too few test labels come first, then the requirement: significantly reached, or too close to
    say. Else the largest term of `decompose` that is significantly above 0 names the step. Without
    one the limit does: the bound is reached, or the irreducible error is significantly larger than
    every other term. When nothing is significant, more test labels are needed.
    """
    name = "champion" if report.candidate_digest is None else "candidate"
    production = measured(report.entries, name)
    if production is None or production.num_samples < gate.min_fresh_samples:
        have = "too few" if production is None else str(production.num_samples)
        return (
            f"Collect test labels: {have} samples of the probability share are labeled, "
            f"{gate.min_fresh_samples} are needed to measure {report.metric} in production."
        )
    asked = _by_requirement(report, metric, name, production)
    if asked:
        return asked
    bound = reference(report)
    if bound is None:
        return (
            f"Set metric.requirement: {report.metric} is {format_estimate(production)} in production, and "
            "there is nothing to compare it with."
        )
    return _by_terms(report, name, production, bound)


def _by_requirement(report: Report, metric: Metric, name: str, production: Estimate) -> str:
    """The step when the requirement is reached or too close to say; "" for neither."""
    target, up = metric.requirement, report.higher_is_better
    if target is None:
        return ""
    # The ends of the interval, worse one first.
    worst, best = (production.low, production.high)[:: 1 if up else -1]
    aim = f"the requirement ({target:.3g})"
    if above(worst, target, higher_is_better=up) >= 0:
        missed = [
            watched
            for watched in report.watched
            if significantly_misses(watched, _of(name, watched))
        ]
        if missed:
            return (
                f"Work on {condition(missed[0])}: the {name} significantly misses it, while "
                f"{report.metric} with {format_estimate(production)} significantly reaches {aim}."
            )
        return (
            f"Ask for more: with {format_estimate(production)} the {name} significantly reaches {aim}; "
            "raise metric.requirement, or spend the labels elsewhere."
        )
    if above(best, target, higher_is_better=up) >= 0:
        return (
            f"Collect test labels: with {format_estimate(production)} it is not clear whether "
            f"the {name} reaches {aim}."
        )
    return ""


def _of(name: str, watched: Watched) -> Estimate | None:
    return watched.candidate if name == "candidate" else watched.champion


def _by_terms(report: Report, name: str, production: Estimate, bound: Entry) -> str:
    """The step of the largest significant term, else of the limit, else more labels."""
    terms = decompose(report)
    is_reached = _reaches(report, production, bound)
    model = f"the {name} with {format_estimate(production)}"
    if is_reached and bound.kind in STRONG:
        return (
            f"{_capital(terms[0].step)}: {model} significantly reaches {_described(bound)}, "
            "the tightest bound."
        )
    known = [(term, term.estimate) for term in terms[1:] if term.estimate is not None]
    significant = [(term, number) for term, number in known if number.low > 0]
    if significant:
        term, number = max(significant, key=lambda pair: pair[1].value)
        return (
            f"{_capital(term.step)}. The {term.name} of the {name}, {term.meaning}, is "
            f"{format_estimate(number)}, the largest significant part; {_beside(bound)}."
        )
    if is_reached:
        return (
            f"Set metric.requirement: {model} significantly reaches {_described(bound)}, the "
            "tightest bound, and nothing says how good is good enough."
        )
    if bound.kind in STRONG and _dominates(terms[0], known):
        return (
            f"{_capital(terms[0].step)}: {model} is as good as the data can show; the "
            f"{terms[0].name} is larger than any other part, {_beside(bound)}."
        )
    return (
        f"Collect test labels: {model} is short of {_described(bound)} or close to it, and "
        "no part of its error is significantly above 0."
    )


def _reaches(report: Report, production: Estimate, bound: Entry) -> bool:
    """Whether the whole interval is at least as good as the value of the bound."""
    known, up = usable(bound.metric), report.higher_is_better
    worst = production.low if up else production.high
    return known is not None and above(worst, known.value, higher_is_better=up) >= 0


def _dominates(limit: Term, others: Sequence[tuple[Term, Estimate]]) -> bool:
    """Whether the limit is significantly larger than every other term, down to production."""
    reaches_production = any("distribution shift" in term.name for term, _ in others)
    known = limit.estimate
    return (
        known is not None
        and reaches_production
        and all(known.low > number.high for _, number in others)
    )


def _described(bound: Entry) -> str:
    value = f"{bound.metric.value:.3g}" if bound.metric is not None else "unknown"
    if bound.kind == "requirement":
        return f"the requirement ({value})"
    return f"the {bound.kind} baseline {bound.name!r} ({value})"


def _beside(bound: Entry) -> str:
    if bound.kind == "requirement":
        return f"no annotator and no published result gives a bound, so {_described(bound)} serves as one"
    return f"the tightest bound is {_described(bound)}"


def _capital(step: str) -> str:
    return step[0].upper() + step[1:]
