"""What each requirement still takes: labels, nights and money, with what is likely and what is not.

The forecast rests on the nights so far: how many labels each candidate was trained on, and how well it
did. It goes wrong when production or the model changes; how often it was right is counted.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import astuple, dataclass, replace

import numpy as np
from sqlalchemy import Connection

from flywheel.annotate.expense import Expense
from flywheel.decide import tightest_bound
from flywheel.decide.curve import (
    FEWEST,
    LearningCurve,
    Measured,
    Outlook,
    fit_curve,
    standard_error,
    too_few,
)
from flywheel.decide.worth import Deferred, Worth, worth_of
from flywheel.evaluate.book import LATENCY
from flywheel.ledger.datasets import get_version
from flywheel.ledger.history import reported_nights, results_of
from flywheel.ledger.judged import newest_probes, report_of_night
from flywheel.ledger.nights import current_night_number
from flywheel.ledger.windows import latest
from flywheel.loop import Loop
from flywheel.metrics.compiled import compile_formula
from flywheel.records import Abstention, Estimate, Probe, Report
from flywheel.report.kit import text
from flywheel.report.night.facts import comparable_reports, thin_out

NEXT = 100
"""labels whose gain is forecast"""
_NIGHTS = 60
_CHECKED = 10
"""forecasts that are compared with the night after them"""
_FAR = 100
"""times the labels that there are: what takes more is out of reach"""

_NO_LABELS = "labels do not change it: take a smaller network, or a faster machine"

_ON_START = "on start data, and production may be harder: "

Points = list[Measured]
"""of the candidates, oldest first"""


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
    nights: Outlook | None = None
    money: Outlook | None = None
    """in the assessment's `currency`; None: the price of a label is not known"""
    hours: Outlook | None = None
    """of training, on the device that trained last; None: nothing has trained"""
    note: str = ""
    """what it comes to, in a sentence"""


@dataclass(frozen=True, kw_only=True, slots=True)
class Training:
    """What training a candidate took."""

    labels: int
    seconds: float
    device: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Saving:
    """Labels drawn by chance alone beside the mix that the nights train on."""

    drawn: int
    """by chance; start data is not counted"""
    value: Estimate
    """of the metric that they reach"""
    needs: Outlook
    """labels of the mix that reach the same"""


@dataclass(frozen=True, kw_only=True, slots=True)
class Assessment:
    """What the nights so far say of the nights to come."""

    metric: str
    goals: tuple[Goal, ...]
    points: tuple[tuple[int, Estimate], ...]
    parts: tuple[tuple[int, Estimate], ...]
    """the same of models that were trained on parts of the newest rows, see `flywheel assess --train`"""
    is_start: bool
    """whether these were measured on start data, since production had no test labels"""
    saving: Saving | None
    """None: not known"""
    ahead: tuple[tuple[int, Outlook], ...]
    """labels that train, and the metric that is expected with them: now, and two, four and eight times"""
    steps: tuple[tuple[float, Outlook], ...]
    """values of the metric with 3/4, 1/2, 1/4 and 1/10 of the loss of now, and further labels to each"""
    gain: Outlook | None
    """of the metric, by the next 100 labels that train"""
    worth: Outlook | None
    """what that gain returns a night, in `currency`; None: [value] is not set, or the metric is no share"""
    deferred: Deferred | None
    """share that the newest report defers, and with the next 100 labels; None: nothing, or no `worth`"""
    price: Estimate | None
    """of a label that trains, in `currency`"""
    currency: str
    per_night: float
    """labels that came to train a night, on average; before two nights those that are asked for"""
    training: tuple[Training, ...]
    """of the nights so far, oldest first"""
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
        training, per_night = _training(connection, reports), _per_night(connection, reports)
        probes = newest_probes(connection)
        answers = latest(connection, "predictions") / max(len(nights), 1)
    settings = loop.project.metric
    up = settings.higher_is_better
    metric = compile_formula(settings.optimize, loop.project.directory).text
    best = _optimum(loop, metric, higher_is_better=up)
    parts = _parts(points, probes, metric)
    window = loop.project.dataset.window_nights
    curve = fit_curve([*parts, *points], window=window, higher_is_better=up, optimum=best)
    now = _trained(points, parts)
    gain = curve.gain(now, NEXT) if curve else None
    held, checked = _checked(points, best, window, higher_is_better=up)
    worth = _worth(loop, points, gain, reports[-1].abstention if reports else None, answers)
    assessed = Assessment(
        metric=settings.optimize,
        goals=tuple(_goals(loop, reports, {metric: points, **watched}, probes, curve)),
        points=tuple((one.labels, one.value) for one in points),
        parts=tuple((one.labels, one.value) for one in parts),
        is_start=bool(parts) and any(one.is_start for one in probes),
        saving=_saving(curve, probes, metric),
        ahead=tuple((times * now, curve.at(times * now)) for times in (1, 2, 4, 8))
        if curve
        else (),
        steps=tuple(_steps(curve, now)) if curve else (),
        gain=gain,
        worth=worth.money if worth else None,
        deferred=worth.deferred if worth else None,
        price=labeling.money_per_training_label,
        currency=loop.project.cost.currency,
        per_night=per_night or float(loop.project.labeling.samples_per_night),
        training=training,
        held=held,
        num_checked=checked,
    )
    return replace(
        assessed, goals=tuple(_with_costs(assessed, goal, now) for goal in assessed.goals)
    )


def _goals(
    loop: Loop,
    reports: Sequence[Report],
    measured: Mapping[str, Points],
    probes: Sequence[Probe],
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
        metric = next(iter(measured))
        goal = Goal(formula=settings.optimize, bound=required, is_upper=not up, now=None)
        parts = _parts(measured[metric], probes, metric)
        yield _on_start(_goal(goal, measured[metric], parts, curve, beside), parts, probes)
    for one in (one for report in reports[-1:] for one in report.watched):
        if one.bound is None:
            continue
        known, up = measured[one.formula], not one.is_upper
        parts = _parts(known, probes, one.formula)
        best = _optimum(loop, one.formula, higher_is_better=up)
        goal = Goal(formula=one.formula, bound=one.bound, is_upper=one.is_upper, now=None)
        if compile_formula(one.formula, loop.project.directory).columns == {LATENCY}:
            yield _goal(goal, known, parts, None, _NO_LABELS)
            continue
        window = loop.project.dataset.window_nights
        fitted = fit_curve([*parts, *known], window=window, higher_is_better=up, optimum=best)
        yield _on_start(_goal(goal, known, parts, fitted), parts, probes)


def _on_start(goal: Goal, parts: Points, probes: Sequence[Probe]) -> Goal:
    """Say where a goal rests on start data alone."""
    is_start = bool(parts) and any(probe.is_start for probe in probes)
    return replace(goal, note=_ON_START + goal.note) if is_start else goal


def _parts(points: Points, probes: Sequence[Probe], formula: str) -> Points:
    """Return what models of parts of the rows were measured at, if it is what nights are measured on.

    Before the first night with a test set of production that is the start data that is held out.
    """
    return [
        Measured(one.num_train, one.values[formula], one.night)
        for one in probes
        if formula in one.values
        and (one.rows == "nested" or (one.rows == "all" and not points))
        and not (one.is_start and points)
    ]


def _trained(points: Points, parts: Points) -> int:
    """Return the labels of the newest candidate."""
    return points[-1].labels if points else max((one.labels for one in parts), default=0)


def _saving(curve: LearningCurve | None, probes: Sequence[Probe], formula: str) -> Saving | None:
    """Compare labels that were drawn by chance with the mix that the nights train on."""
    for one in probes:
        if curve is None or one.rows != "random" or one.is_start or formula not in one.values:
            continue
        known = one.values[formula]
        found = curve.labels_to(known.value, standard_error(known))
        needs = Outlook(*(max(labels - one.num_fixed, 0.0) for labels in astuple(found)))
        return Saving(drawn=one.num_train - one.num_fixed, value=known, needs=needs)
    return None


def _goal(
    goal: Goal, known: Points, parts: Points, curve: LearningCurve | None, beside: str = ""
) -> Goal:
    now = (known or parts)[-1].value if known or parts else None
    goal = replace(goal, now=now)
    if now is not None and (now.high < goal.bound if goal.is_upper else now.low > goal.bound):
        return replace(goal, note="reached: the whole interval is beyond it")
    if curve is None:
        return replace(
            goal,
            note=beside
            if beside == _NO_LABELS
            else too_few(one.labels for one in (*parts, *known)),
        )
    trained = _trained(known, parts)
    never = 1 - curve.chance(goal.bound, _FAR * trained)
    labels = _further(curve.labels_to(goal.bound), trained)
    note = "more labels reach it"
    if never > 0.5:
        note = f"out of reach with this model, with a probability of {never:.0%}{beside}"
    elif math.isinf(labels.high):
        note = f"more labels reach it; with a probability of {never:.0%} a hundred times as many do not"
    elif labels.middle == 0:
        note = "as good as reached: label for the test set until the interval says so"
    return replace(goal, labels=labels, never=never, note=note)


def _further(labels: Outlook, trained: int) -> Outlook:
    """Return the labels beyond those that trained; too many are out of reach."""
    far = _FAR * trained
    return Outlook(
        *(max(one - trained, 0.0) if one <= far else math.inf for one in astuple(labels))
    )


def _steps(curve: LearningCurve, trained: int) -> Iterator[tuple[float, Outlook]]:
    now = curve.at(trained).middle
    for share in (0.75, 0.5, 0.25, 0.1):
        value = curve.at_loss(now, share)
        yield value, _further(curve.labels_to(value), trained)


def _measured(
    connection: Connection, reports: Sequence[Report]
) -> tuple[Points, dict[str, Points]]:
    """Return what each night's candidate was measured at: its metric, and every watched formula."""
    points: Points = []
    watched: dict[str, Points] = {}
    for report in reports:
        trained = get_version(connection, report.dataset_id).num_train
        points += [
            Measured(trained, entry.metric, report.night)
            for entry in report.entries
            if entry.name == "candidate" and entry.metric is not None
        ]
        for one in report.watched:
            known = watched.setdefault(one.formula, [])
            if one.candidate is not None:
                known.append(Measured(trained, one.candidate, report.night))
    return points, watched


def _training(connection: Connection, reports: Sequence[Report]) -> tuple[Training, ...]:
    results = results_of(connection, "retrain")
    rows = [(report, dict(results.get(report.night) or {})) for report in reports]
    return tuple(
        Training(
            labels=get_version(connection, report.dataset_id).num_train,
            seconds=row["train_seconds"],
            device=row["device"],
        )
        for report, row in rows
        if row.get("device")
    )


def _with_costs(found: Assessment, goal: Goal, now: int) -> Goal:
    """Add nights, money and hours to the labels of a goal."""
    if goal.labels is None:
        return goal
    nights = Outlook(*(one / found.per_night for one in astuple(goal.labels)))
    hours = None
    if found.training:
        known = [(one.labels, one.seconds) for one in found.training]
        counts, seconds = np.array(known, dtype=np.float64).T
        spread = max(float(counts.var()), 1e-9)
        # Linear in the labels, which never make training shorter; halfway there is the mean of the way.
        slope = max(float(np.cov(counts, seconds, bias=True)[0, 1]) / spread, 0.0)
        first = float(seconds.mean() + slope * (now - counts.mean()))
        each = (first + slope * one * found.per_night / 2 for one in astuple(nights))
        hours = Outlook(
            *(
                one if math.isinf(one) else one * one_night / 3600
                for one, one_night in zip(astuple(nights), each, strict=True)
            )
        )
    return replace(
        goal,
        nights=nights,
        money=None if found.price is None else spent(found.price, goal.labels),
        hours=hours,
    )


def spent(price: Estimate, labels: Outlook) -> Outlook:
    """Return what labels cost; the interval holds that of the price too."""
    prices = (price.low, price.value, price.high)
    costs = (
        math.inf if math.isinf(number) else number * each
        for number, each in zip(astuple(labels), prices, strict=True)
    )
    return Outlook(*costs)


def _per_night(connection: Connection, reports: Sequence[Report]) -> float:
    """Return the labels that came to train a night; 0 before two nights."""
    if len(reports) < 2:
        return 0.0
    first, last = (get_version(connection, reports[at].dataset_id).num_train for at in (0, -1))
    return max(last - first, 0) / max(reports[-1].night - reports[0].night, 1)


def _checked(
    points: Points, best: float | None, window: int, *, higher_is_better: bool
) -> tuple[int, int]:
    """Return how many of the last nights lay where the nights before them said."""
    held = checked = 0
    for place in range(max(len(points) - _CHECKED, FEWEST), len(points)):
        curve = fit_curve(
            points[:place], window=window, higher_is_better=higher_is_better, optimum=best
        )
        if curve is None:
            continue
        labels, came, _ = points[place]
        outlook = curve.at(labels, standard_error(came))
        held += outlook.low <= came.value <= outlook.high
        checked += 1
    return held, checked


def _worth(
    loop: Loop, points: Points, gain: Outlook | None, found: Abstention | None, answers: float
) -> Worth | None:
    """Return what a gain is worth a night, where the metric is the share of right answers."""
    up = loop.project.metric.higher_is_better
    is_share = up and all(0 <= one.value.value <= 1 for one in points)
    if gain is None or not answers or not is_share:
        return None
    return worth_of(gain, answers, loop.project.value, found, points[-1].value.num_samples)
