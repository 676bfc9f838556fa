"""What each requirement still takes: labels, nights and money, with what is likely and what is not.

The forecast rests on the nights so far: how many labels each candidate was trained on, and how well it
did. It goes wrong when production or the model changes; how often it was right is counted.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import astuple, dataclass, replace

import numpy as np
from sqlalchemy import Connection

from flywheel.annotate.expense import Expense
from flywheel.decide import tightest_bound
from flywheel.decide.curve import FEWEST, LearningCurve, Outlook, fit_curve, standard_error
from flywheel.ledger.datasets import get_version
from flywheel.ledger.history import reported_nights, results_of
from flywheel.ledger.judged import report_of_night
from flywheel.ledger.nights import current_night_number
from flywheel.ledger.windows import latest
from flywheel.loop import Loop
from flywheel.metrics.compiled import compile_formula
from flywheel.records import Estimate, Report
from flywheel.report.kit import text
from flywheel.report.kit.tables import Sheet
from flywheel.report.night.facts import comparable_reports, thin_out

NEXT = 100
"""labels whose gain is forecast"""
_NIGHTS = 60
_CHECKED = 10
"""forecasts that are compared with the night after them"""
_YEAR = 365
_FAR = 100
"""times the labels that there are: what takes more is out of reach"""

Points = list[tuple[int, Estimate]]
"""labels that a candidate was trained on, and what it was measured at; oldest first"""


@dataclass(frozen=True, kw_only=True, slots=True)
class Goal:
    """A requirement, and what it takes."""

    formula: str
    bound: float
    is_upper: bool
    """whether the value must lie below the bound"""
    now: Estimate | None
    """of the newest candidate"""
    labels: Outlook | None = None
    """further labels that train, infinity: out of reach; None: reached, or too few nights to say"""
    never: float | None = None
    """probability, 0..1, that a hundred times the labels do not suffice"""
    note: str = ""
    """what it comes to, in a sentence"""


@dataclass(frozen=True, kw_only=True, slots=True)
class Assessment:
    """What the nights so far say of the nights to come."""

    metric: str
    goals: tuple[Goal, ...]
    points: tuple[tuple[int, Estimate], ...]
    ahead: tuple[tuple[int, Outlook], ...]
    """labels that train, and the metric that is expected with them: now, and two, four and eight times"""
    gain: Outlook | None
    """of the metric, by the next 100 labels that train"""
    worth: Outlook | None
    """what that gain returns a night, in `currency`; None: [value] is not set, or the metric is no share"""
    price: Estimate | None
    """of a label that trains, in `currency`"""
    currency: str
    per_night: float
    """labels that came to train a night, on average"""
    gpu_hours: float
    """of training a night, on average"""
    held: int
    """nights whose metric lay in the 80 % interval that was forecast the night before"""
    num_checked: int
    """nights with such a forecast"""


def _optimum(loop: Loop, formula: str, *, higher_is_better: bool) -> float | None:
    """Return the best value that a formula can have; None when it has no end."""
    ends = compile_formula(formula, loop.project.directory).range
    best = ends[1 if higher_is_better else 0] if ends is not None else math.inf
    return best if math.isfinite(best) else None


def assess(loop: Loop, labeling: Expense) -> Assessment:
    """Read the nights so far and forecast from them; `labeling` is what all annotations cost."""
    with loop.ledger.read() as connection:
        nights = reported_nights(connection, current_night_number(connection))
        newest = report_of_night(connection, nights[-1]) if nights else None
        found = comparable_reports(connection, newest, thin_out(nights, _NIGHTS))
        reports = [one for one in found if newest and one.metric_id == newest.metric_id]
        points, watched = _measured(connection, reports)
        seconds = [dict(row)["train_seconds"] for row in results_of(connection, "retrain").values()]
        answers = latest(connection, "predictions") / max(len(nights), 1)
    settings = loop.project.metric
    up = settings.higher_is_better
    best = _optimum(loop, settings.optimize, higher_is_better=up)
    curve = fit_curve(points, higher_is_better=up, optimum=best)
    now = points[-1][0] if points else 0
    gain = curve.gain(now, NEXT) if curve else None
    held, checked = _checked(points, best, higher_is_better=up)
    return Assessment(
        metric=settings.optimize,
        goals=tuple(_goals(loop, reports, points, watched, curve)),
        points=tuple(points),
        ahead=tuple((times * now, curve.at(times * now)) for times in (1, 2, 4, 8))
        if curve
        else (),
        gain=gain,
        worth=_worth(loop, points, gain, answers),
        price=labeling.money_per_training_label,
        currency=loop.project.cost.currency,
        per_night=_per_night(points, reports),
        gpu_hours=float(np.mean(seconds)) / 3600 if seconds else 0.0,
        held=held,
        num_checked=checked,
    )


def goals_sheet(found: Assessment) -> Sheet:
    """Return the table of requirements."""
    return Sheet(
        key="goals",
        title="What each requirement still takes",
        headings=(
            "requirement",
            "now",
            "further labels",
            "nights",
            found.currency,
            "what that means",
        ),
        rows=tuple(_goal_row(found, goal) for goal in found.goals),
        values=(1, 2, 3, 4),
        note=_about(found),
    )


def ahead_sheet(found: Assessment) -> Sheet:
    """Return the table of what more labels are expected to bring."""
    rows = [
        (f"{labels:,}", outlook_line(outlook), _money(found, labels - found.ahead[0][0]))
        for labels, outlook in found.ahead
    ]
    return Sheet(
        key="ahead",
        title="What more labels are expected to bring",
        headings=("labels that train", found.metric, f"further {found.currency}"),
        rows=tuple(rows),
        values=(0, 1, 2),
        caption="What each night's candidate was measured at, and the 80 % band of what is expected.",
        note=_return(found) if rows else _too_few(found.points),
    )


def labels_line(goal: Goal) -> str:
    """Return the further labels with their interval; "" where nothing can be said, or none suffices."""
    if goal.labels is None or math.isinf(goal.labels.middle):
        return ""
    return outlook_line(goal.labels, _whole)


def _goals(
    loop: Loop,
    reports: Sequence[Report],
    points: Points,
    watched: dict[str, Points],
    curve: LearningCurve | None,
) -> Iterator[Goal]:
    """Yield the metric's requirement, if there is one, then every bound; `curve` is the metric's."""
    settings, entries = loop.project.metric, reports[-1].entries if reports else ()
    up, required = settings.higher_is_better, settings.requirement
    if required is not None:
        limit = tightest_bound(entries, higher_is_better=up)
        beside = ""
        if limit is not None and limit.metric is not None:
            beside = (
                f"; the tightest baseline, {limit.name}, is at {text.number(limit.metric.value)}"
            )
        goal = Goal(formula=settings.optimize, bound=required, is_upper=not up, now=_newest(points))
        yield _goal(goal, points, curve, beside)
    for one in (one for report in reports[-1:] for one in report.watched):
        if one.bound is None:
            continue
        known, up = watched[one.formula], not one.is_upper
        best = _optimum(loop, one.formula, higher_is_better=up)
        goal = Goal(formula=one.formula, bound=one.bound, is_upper=one.is_upper, now=_newest(known))
        yield _goal(goal, known, fit_curve(known, higher_is_better=up, optimum=best))


def _newest(points: Points) -> Estimate | None:
    return points[-1][1] if points else None


def _goal(goal: Goal, known: Points, curve: LearningCurve | None, beside: str = "") -> Goal:
    now = goal.now
    if now is not None and (now.high < goal.bound if goal.is_upper else now.low > goal.bound):
        return replace(goal, note="reached: the whole interval is beyond it")
    if curve is None:
        return replace(goal, note=_too_few(known))
    trained = known[-1][0]
    far = _FAR * trained
    never = 1 - curve.chance(goal.bound, far)
    labels = Outlook(
        *(
            max(one - trained, 0.0) if one <= far else math.inf
            for one in astuple(curve.labels_to(goal.bound))
        )
    )
    note = "more labels reach it"
    if never > 0.5:
        note = f"out of reach with this model, with a probability of {never:.0%}{beside}"
    elif math.isinf(labels.high):
        note = f"more labels reach it; with a probability of {never:.0%} a hundred times as many do not"
    elif labels.middle == 0:
        note = "as good as reached: label for the test set until the interval says so"
    return replace(goal, labels=labels, never=never, note=note)


def _measured(
    connection: Connection, reports: Sequence[Report]
) -> tuple[Points, dict[str, Points]]:
    """Return what each night's candidate was measured at: its metric, and every watched formula."""
    points: Points = []
    watched: dict[str, Points] = {}
    for report in reports:
        trained = get_version(connection, report.dataset_id).num_train
        points += [
            (trained, entry.metric)
            for entry in report.entries
            if entry.name == "candidate" and entry.metric is not None
        ]
        for one in report.watched:
            known = watched.setdefault(one.formula, [])
            if one.candidate is not None:
                known.append((trained, one.candidate))
    return points, watched


def _per_night(points: Points, reports: Sequence[Report]) -> float:
    if len(points) < 2:
        return 0.0
    return max(points[-1][0] - points[0][0], 0) / max(reports[-1].night - reports[0].night, 1)


def _checked(points: Points, best: float | None, *, higher_is_better: bool) -> tuple[int, int]:
    """Return how many of the last nights lay where the nights before them said."""
    held = checked = 0
    for place in range(max(len(points) - _CHECKED, FEWEST), len(points)):
        curve = fit_curve(points[:place], higher_is_better=higher_is_better, optimum=best)
        if curve is None:
            continue
        labels, came = points[place]
        outlook = curve.at(labels, standard_error(came))
        held += outlook.low <= came.value <= outlook.high
        checked += 1
    return held, checked


def _worth(loop: Loop, points: Points, gain: Outlook | None, answers: float) -> Outlook | None:
    """Return what a gain is worth a night, where the metric is the share of right answers."""
    value, metric = loop.project.value, loop.project.metric
    each = value.right - value.wrong
    is_share = metric.higher_is_better and all(0 <= one.value <= 1 for _, one in points)
    if gain is None or each == 0 or not is_share:
        return None
    ends = sorted(one * answers * each for one in astuple(gain))
    return Outlook(*ends)


def _return(found: Assessment) -> str:
    """Return what the next labels cost and return, in sentences."""
    if found.gain is None:
        return ""
    said = f"The next {NEXT} labels that train bring {outlook_line(found.gain)} of {found.metric}"
    if found.price is not None:
        said += f", for {_money(found, NEXT)} {found.currency}"
    if found.worth is None:
        return (
            f"{said}. What that returns needs [value] right and wrong, and a metric that is a share"
        )
    said += f", and return {outlook_line(found.worth)} {found.currency} a night"
    if found.price is None or found.worth.high <= 0:
        return said
    nights = NEXT * found.price.value / found.worth.middle if found.worth.middle > 0 else math.inf
    if nights > _YEAR:
        return f"{said}: less than they cost within a year. Stop labeling, or raise the value of an answer"
    return f"{said}: they have paid for themselves after {_whole(nights)} nights"


def _goal_row(found: Assessment, goal: Goal) -> tuple[str, ...]:
    name = f"{goal.formula} {'<' if goal.is_upper else '>'} {goal.bound:g}"
    labels = labels_line(goal)
    if goal.labels is None or not labels:
        return name, text.estimate(goal.now), "", "", "", goal.note
    nights = (
        ""
        if found.per_night <= 0
        else outlook_line(goal.labels, lambda n: _whole(n / found.per_night))
    )
    money = "" if found.price is None else outlook_line(goal.labels, lambda n: _money(found, n))
    return name, text.estimate(goal.now), labels, nights, money, goal.note


def outlook_line(outlook: Outlook, form: Callable[[float], str] = text.number) -> str:
    """Return the middle with its interval."""
    low, middle, high = (form(one) for one in astuple(outlook))
    return middle if low == high else f"{middle} [{low}, {high}]"


def _whole(value: float) -> str:
    return "out of reach" if math.isinf(value) else f"{math.ceil(value):,}"


def _money(found: Assessment, labels: float) -> str:
    return text.NOT_ENOUGH if found.price is None else _whole(labels * found.price.value)


def _about(found: Assessment) -> str:
    if not found.goals:
        return (
            "No requirement is set. Write metric.requirement, the value that the product needs, and this "
            "says what it takes"
        )
    if not found.num_checked:
        return "In brackets: 10 and 90 %. No forecast has met its night yet"
    return (
        f"In brackets: 10 and 90 %. Of the last {found.num_checked} nights {found.held} lay in the 80 % "
        "interval that was forecast the night before"
    )


def _too_few(points: Sequence[tuple[int, Estimate]]) -> str:
    have = len({labels for labels, _ in points})
    return f"not enough nights yet: {have} numbers of labels were measured, {FEWEST} are needed"
