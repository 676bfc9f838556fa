"""The tables of the forecast: what each requirement still takes, and what more labels bring."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import astuple

from flywheel.decide.curve import FEWEST, Outlook, too_few
from flywheel.report.assess import NEXT, Assessment, Goal, spent
from flywheel.report.kit import text
from flywheel.report.kit.curves import CostCurve, cost_curve
from flywheel.report.kit.tables import Sheet

_YEAR = 365


def goals_sheet(found: Assessment) -> Sheet:
    """Return the table of requirements."""
    return Sheet(
        key="goals",
        title="What each requirement still takes",
        headings=(
            "requirement",
            "newest candidate",
            "further labels",
            "nights",
            found.currency,
            f"hours on {found.training[-1].device}" if found.training else "hours of training",
            "what that means",
        ),
        rows=tuple(_goal_row(goal) for goal in found.goals),
        values=(1, 2, 3, 4, 5),
        note=_about(found),
    )


def ahead_sheet(found: Assessment) -> Sheet:
    """Return the table of what more labels are expected to bring."""
    start = (
        "All of this is of start data that is held out: production has no test labels yet. "
        if found.is_start
        else ""
    )
    rows = [
        (f"{labels:,}", outlook_line(outlook), _money(found, labels - found.ahead[0][0]))
        for labels, outlook in found.ahead
    ]
    return Sheet(
        key="ahead",
        title="What more labels are expected to bring",
        headings=("labels that train", found.metric, f"further {found.currency}"),
        rows=tuple(rows),
        values=(1, 2),
        caption="What each night's candidate was measured at, squares: models of parts of the newest rows, "
        "and the 80 % band of what is expected.",
        note=f"{start}{_beside(found)}{_return(found)}. {_saving(found)}"
        if rows
        else too_few(labels for labels, _ in (*found.parts, *found.points)),
    )


def steps_sheet(found: Assessment) -> Sheet:
    """Return the table of what accuracy costs, which rises steeply."""
    curve = _costs(found)
    is_required = curve is not None and curve.required is not None
    rows = [
        (
            text.number(value),
            outlook_line(labels, _whole),
            "" if found.price is None else outlook_line(spent(found.price, labels), _whole),
        )
        for value, labels in found.steps
    ]
    return Sheet(
        key="steps",
        title="What accuracy costs",
        headings=(found.metric, "further labels", found.currency),
        rows=tuple(rows),
        values=(1, 2),
        caption="What each level is expected to cost further, with its 80 % band, which is cut where it leaves "
        f"the drawing; never: out of reach with this model.{' Red: the requirement.' if is_required else ''}",
        curve=curve,
        note="Levels that leave 3/4, 1/2, 1/4 and 1/10 of the loss that is expected with the labels of now. A "
        "product that needs less costs less: see abstention"
        if rows
        else too_few(labels for labels, _ in (*found.parts, *found.points)),
    )


def _costs(found: Assessment) -> CostCurve | None:
    required = next((one.bound for one in found.goals if one.formula == found.metric), None)
    if found.price is None or found.price.value <= 0:
        return cost_curve(found.metric, "labels", found.steps, required)
    costs = [(level, spent(found.price, labels)) for level, labels in found.steps]
    return cost_curve(found.metric, found.currency, costs, required)


def labels_line(goal: Goal) -> str:
    """Return the further labels with their interval; "" where nothing can be said, or none suffices."""
    if goal.labels is None or math.isinf(goal.labels.middle):
        return ""
    return outlook_line(goal.labels, _whole)


def _beside(found: Assessment) -> str:
    """Return how the newest candidate stands beside the curve."""
    if not found.points:
        return ""
    return (
        f"The newest candidate was measured at {text.estimate(found.points[-1][1])}: one night's value "
        "scatters, and the curve rests on all of them. "
    )


def _return(found: Assessment) -> str:
    """Return what the next labels cost and return, in sentences."""
    if found.gain is None:
        return ""
    said = f"The next {NEXT} labels that train bring {outlook_line(found.gain)} of {found.metric}"
    if found.price is not None:
        said += f", for {_money(found, NEXT)} {found.currency}"
    if found.worth is None:
        return f"{said}. What that returns needs [value] right and wrong, answers in production, and a metric that is a share"
    said += f", and return {outlook_line(found.worth)} {found.currency} a night"
    if found.deferred is not None:
        then, now = (
            outlook_line(one, text.percent) for one in (found.deferred.then, found.deferred.now)
        )
        said += f", with {then} of production deferred in place of {now}"
    if found.worth.high <= 0:
        return said + _no_return(found)
    if found.price is None:
        return said
    cost = NEXT * found.price.value
    ends = reversed(astuple(found.worth))
    nights = Outlook(*(cost / one if one > 0 else math.inf for one in ends))
    if nights.middle > _YEAR:
        return f"{said}: less than they cost within a year. Stop labeling, or raise the value of an answer"
    return f"{said}: they have paid for themselves after {outlook_line(nights, _whole)} nights"


def _no_return(found: Assessment) -> str:
    """Return why the next labels return nothing."""
    if found.gain is not None and found.gain.high <= 0:
        return ": nothing, as further labels bring no gain"
    said = ": nothing, as a right answer has to bring more than a wrong one: raise [value] right"
    if found.deferred is None:
        return said
    return f"{said}, or what is then answered is worth less than deferred: lower abstain.max_failure_rate"


def _goal_row(goal: Goal) -> tuple[str, ...]:
    name = f"{goal.formula} {'<' if goal.is_upper else '>'} {goal.bound:g}"
    if not labels_line(goal):
        return name, text.estimate(goal.now), "", "", "", "", goal.note
    costs = (
        "" if cost is None else outlook_line(cost, form)
        for cost, form in ((goal.nights, _whole), (goal.money, _whole), (goal.hours, _hours))
    )
    return name, text.estimate(goal.now), labels_line(goal), *costs, goal.note


def outlook_line(outlook: Outlook, form: Callable[[float], str] = text.number) -> str:
    """Return the middle with its interval."""
    low, middle, high = (form(one) for one in astuple(outlook))
    return middle if low == high else f"{middle} [{low}, {high}]"


def _whole(value: float) -> str:
    return "never" if math.isinf(value) else f"{math.ceil(value):,}"


def _hours(value: float) -> str:
    if value >= 10:
        return _whole(value)
    return f"{value:.2g}" if value == 0 or value >= 0.01 else "< 0.01"


def _money(found: Assessment, labels: float) -> str:
    if found.price is None:
        return text.NOT_ENOUGH
    return outlook_line(spent(found.price, Outlook(labels, labels, labels)), _whole)


def _saving(found: Assessment) -> str:
    if found.saving is None:
        why = (
            "fewer than 20 of either kind trained when flywheel assess --train last ran: random labels "
            "test first"
            if found.parts
            else "flywheel assess --train measures it, once 20 of either kind train"
        )
        return f"What chosen labels save against random ones is not known: {why}"
    drawn, needs = found.saving.drawn, found.saving.needs
    return (
        f"{drawn:,} labels drawn by chance alone reach {text.estimate(found.saving.value)}; of the labels "
        f"as they are chosen it takes {outlook_line(needs, _whole)}"
    )


def _about(found: Assessment) -> str:
    if not found.goals:
        return (
            "No requirement is set. Write metric.requirement, the value that the product needs, and this "
            "says what it takes"
        )
    said = "In brackets: 10 and 90 %; never: a hundred times the labels do not suffice"
    if not found.num_checked:
        return f"{said}. How often such forecasts hold is counted once {FEWEST + 1} nights are measured"
    return (
        f"{said}. Of {found.num_checked} nights that were checked {found.held} lay in the 80 % interval that was "
        "forecast the night before"
    )
