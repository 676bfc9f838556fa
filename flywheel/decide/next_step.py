"""The next step that the numbers ask for, in one sentence.

The same model beside another baseline asks for another step. Refuses to know how steps are done.
"""

from __future__ import annotations

from flywheel.decide.facts import above, measured, told
from flywheel.project import Gate, Metric
from flywheel.records import Estimate, Report


def next_step(report: Report, metric: Metric, gate: Gate) -> str:
    """One sentence: collect test labels, label failures, tune, or ask for more.

    The shortfall against the target (the requirement, else the annotators, else the best
    baseline) splits into what is missing on data like the start data already and what is lost
    from there to production; the larger part names the step.
    """
    name = "champion" if report.candidate_digest is None else "candidate"
    production = measured(report.entries, name)
    if production is None or production.num_samples < gate.min_test_samples:
        have = 0 if production is None else production.num_samples
        return (
            f"Collect test labels: {have} samples of the probability share are labeled, "
            f"{gate.min_test_samples} are needed to measure {report.metric} in production."
        )
    aim = _target(report, metric)
    if aim is None:
        return (
            f"Set metric.requirement: {report.metric} is {told(production)} in production, and "
            "there is nothing to compare it with."
        )
    what, target = aim
    return _compare(report, name, production, what, target)


def _target(report: Report, metric: Metric) -> tuple[str, float] | None:
    if metric.requirement is not None:
        return "the requirement", metric.requirement
    for what, kind in (("the annotators", "human"), ("simple ML", "simple ML")):
        estimate = measured(report.entries, kind, is_kind=True)
        if estimate is not None:
            return what, estimate.value
    return None


def _compare(
    report: Report, name: str, production: Estimate, what: str, target: float
) -> str:  # fmt: skip
    up = report.higher_is_better
    worst, best = (production.low, production.high)[:: 1 if up else -1]
    aim = f"{what} ({target:.3g})"
    if above(worst, target, higher_is_better=up) >= 0:
        return (
            f"Ask for more: with {told(production)} the {name} surely reaches {aim}; "
            "raise metric.requirement, or spend the labels elsewhere."
        )
    if above(best, target, higher_is_better=up) >= 0:
        return (
            f"Collect test labels: with {told(production)} nobody can say whether the {name} "
            f"reaches {aim}."
        )
    start = measured(report.start_entries, name)
    if start is None:
        return f"Label more failures: {told(production)} in production is short of {aim}."
    shift = above(start.value, production.value, higher_is_better=up)
    bias = above(target, start.value, higher_is_better=up)
    if shift >= bias:
        return (
            f"Label more failures: the {name} has {start.value:.3g} on the held-out start data and "
            f"{told(production)} in production, short of {aim}; it has not seen enough of production."
        )
    return (
        f"Tune the model: the {name} has only {start.value:.3g} on the held-out start data, short "
        f"of {aim} already there; train longer, or give task.model() more capacity."
    )
