"""The questions that a project of its archetype must answer, and what the numbers say.

An answer has its interval, or says what is missing.
Source: Tobin, Karayev and Abbeel, Setting up Machine Learning Projects (Full Stack Deep Learning).
"""

from __future__ import annotations

from collections.abc import Iterator

from flywheel.decide.vetoes import above, measured
from flywheel.project import Project
from flywheel.records import Estimate, Report
from flywheel.report.assess import Assessment
from flywheel.report.kit import text
from flywheel.report.kit.tables import Sheet
from flywheel.report.overview.ahead import labels_line, outlook_line
from flywheel.report.overview.facts import OverviewFacts
from flywheel.report.overview.sheets import median_line, saved_line


def archetype_sheet(project: Project, facts: OverviewFacts, assessed: Assessment) -> Sheet:
    """Return the questions of the project's archetype with their answers."""
    archetype = project.project.archetype
    ask = {"improve": _improve, "augment": _augment, "automate": _automate}[archetype]
    return Sheet(
        key="archetype",
        title=f"What a project that is to {archetype} asks",
        headings=("question", "answer"),
        rows=tuple(ask(project, facts, assessed)),
        note=f'[project] archetype = "{archetype}". The others: improve an existing process, augment a manual one, automate it',
    )


def _improve(
    _project: Project, facts: OverviewFacts, assessed: Assessment
) -> Iterator[tuple[str, str]]:
    yield "Does the model truly improve on the process?", _beside_the_rules(facts.report)
    yield (
        "Does that bring value?",
        "missing: [value] right and wrong, and a metric that is a share"
        if assessed.worth is None
        else f"100 labels return {outlook_line(assessed.worth)} {assessed.currency} a night",
    )
    yield (
        "Does a data flywheel turn: labels saved",
        (
            saved_line(facts.saved)
            if facts.saved
            else "missing: 10 targeted labels and 5 random ones"
        ),
    )
    yield "the gain of 100 labels", _gain(assessed)
    yield (
        "from a failure seen to its fix",
        (median_line(facts.fix_times) if facts.fix_times else "missing: 5 failures that are fixed"),
    )


def _augment(
    project: Project, facts: OverviewFacts, assessed: Assessment
) -> Iterator[tuple[str, str]]:
    yield "How good must it be to be useful?", _required(project, facts.report)
    yield "How is enough data collected to get there?", _way(assessed)
    yield "What does a label cost?", _price(facts, assessed)


def _automate(
    project: Project, facts: OverviewFacts, assessed: Assessment
) -> Iterator[tuple[str, str]]:
    limit = project.abstain.max_failure_rate
    yield (
        "Which failure rate is acceptable?",
        (
            "missing: abstain.max_failure_rate, the share of answers that may fail"
            if limit is None
            else f"at most {text.percent(limit)} of what is answered"
        ),
    )
    yield "How is it guaranteed?", _guarantee(facts.report)
    yield "How inexpensively are labels had?", _price(facts, assessed)
    yield "How far is the requirement?", _way(assessed)


def _beside_the_rules(report: Report | None) -> str:
    """Compare the judged model with the best scripted baseline, on the same test set."""
    if report is None:
        return "missing: a night with a report"
    up = report.higher_is_better
    mine = _judged(report)
    rules = [
        (one.name, one.metric)
        for one in report.entries
        if one.kind == "scripted" and one.metric is not None
    ]
    if mine is None or not rules:
        return "missing: a measured model, and a scripted baseline (Task.baselines) that does what is done today"
    name, best = max(rules, key=lambda pair: above(pair[1].value, 0.0, higher_is_better=up))
    apart = mine.low > best.high if up else mine.high < best.low
    said = "yes" if apart else "not shown"
    return f"{said}: {text.estimate(mine)} against {text.estimate(best)} of {name}"


def _judged(report: Report) -> Estimate | None:
    return measured(report.entries, "candidate") or measured(report.entries, "champion")


def _required(project: Project, report: Report | None) -> str:
    required = project.metric.requirement
    if required is None:
        return "missing: metric.requirement, the value from which it is of use"
    now = _judged(report) if report is not None else None
    return f"{project.metric.optimize} {text.number(required)}; now {text.estimate(now)}"


def _guarantee(report: Report | None) -> str:
    found = report.abstention if report is not None else None
    if found is None or found.max_failure_rate is None:
        return "missing: abstain.max_failure_rate and a measured candidate; the model then defers what is too unsure"
    sure = text.percent(found.confidence)
    if found.threshold is None:
        return f"not yet: no threshold keeps it with a confidence of {sure}"
    if found.threshold <= 0:
        return f"nothing needs to be deferred: all answers keep it with a confidence of {sure}"
    kept = [point for point in found.curve if point.threshold >= found.threshold]
    share = f", which answers {text.percent(kept[-1].coverage)} of production" if kept else ""
    return (
        f"what is below a confidence of {text.number(found.threshold)} is deferred{share}; this keeps it "
        f"with a confidence of {sure}"
    )


def _way(assessed: Assessment) -> str:
    if not assessed.goals:
        return "missing: metric.requirement; see what it still takes"
    goal = assessed.goals[0]
    labels = labels_line(goal)
    return f"{labels} further labels: {goal.note}" if labels else goal.note


def _gain(assessed: Assessment) -> str:
    gain = assessed.gain
    if gain is None:
        return "missing: three nights whose candidates were trained on different numbers of labels"
    return f"{outlook_line(gain)} of {assessed.metric}"


def _price(facts: OverviewFacts, assessed: Assessment) -> str:
    each = facts.labeling.whole.money_per_label
    return (
        f"{text.estimate(each)} {assessed.currency} each"
        if each
        else "missing: answers of annotators"
    )
