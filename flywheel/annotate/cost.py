"""What people's work costs: minutes and money of every annotation, and the price of an answer.

Bounded, however long there has been labeling: the newest annotations count. Money is worked out
from the time that Label Studio measured; a labeling task that was left open counts as an ordinary
one. Refuses to know budgets.

What one thing costs of another, with its interval: minutes per answer, money per label.

Times are skewed: a few answers take much longer than most, and Student's interval then ends too
early at its upper end. Refuses to know what is counted and what it is paid with.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from scipy import stats
from sqlalchemy import Connection

from flywheel.annotators.pace import measure_pace
from flywheel.ledger.annotators import Cut, Work, recent_work
from flywheel.ledger.campaigns import EVERYONE, EXPERTS, audience_of
from flywheel.project import Project
from flywheel.records import Array, Estimate
from flywheel.settings.labeling import Cost

FEWEST = 5
"""things counted, below which nothing is said"""
_TAIL = 0.025
_UNSEEN = 5.0
"""times as much as usual that something may take of which none was seen so far"""


def ratio(totals: Array, counts: Array) -> Estimate | None:
    """What one of what is counted takes, with a 95 % interval; None when there is too little of it.

    Formula: R = sum t / sum k over N units. Its interval is the hull of Student's, with the
    linearised variance sum (t - R k)^2 N / (N - 1) / (sum k)^2, and of Hall's, which takes the
    skewness of t - R k out of it: R - s / sqrt N g(q), g(q) = 3 sqrt N / c ((1 + c / sqrt N
    (q - c / (6 sqrt N)))^(1/3) - 1) with the skewness c and Student's quantiles q. Of N equal
    units, a share 1 - 0.025^(1/N) may be missing that take nothing, or five times as much.
    Source: Hall, Journal of the Royal Statistical Society B 54 (1992) 221; the rule of three.
    Departure: the hull of both; Student's quantiles in place of the normal ones.

    Args:
        totals: (N,) what each unit took, 0 or more.
        counts: (N,) what it brought, 0 or more.
    """
    number, brought = len(totals), float(counts.sum()) if len(counts) else 0.0
    if number < FEWEST or np.count_nonzero(counts) < FEWEST:
        return None
    value = float(totals.sum()) / brought
    low, high = _bounds((totals - value * counts) * number / brought, value)
    return Estimate(value=value, low=max(low, 0.0), high=high, num_samples=round(brought))


def spread_of(totals: Array, counts: Array) -> float:
    """Standard deviation of what one of what is counted takes; see `ratio`."""
    brought = float(counts.sum())
    errors = totals - float(totals.sum()) / brought * counts
    return float(np.sqrt((errors**2).sum() / max(brought - 1.0, 1.0)))


def _bounds(errors: Array, value: float) -> tuple[float, float]:
    """Of a mean, from the (N,) deviations from it."""
    number = len(errors)
    deviation = float(np.sqrt((errors**2).sum() / (number - 1)))
    if deviation <= 1e-9 * abs(value):
        unseen = 1.0 - _TAIL ** (1.0 / number)
        return (1.0 - unseen) * value, (1.0 + (_UNSEEN - 1.0) * unseen) * value
    step = deviation / np.sqrt(number)
    quantile = float(stats.t.isf(_TAIL, number - 1))
    skewness = float((errors**3).mean()) / deviation**3
    ends = [_unskewed(q, skewness, number) for q in (quantile, -quantile)]
    low = value - step * max(quantile, ends[0])
    high = value - step * min(-quantile, ends[1])
    return float(low), float(high)


def _unskewed(quantile: float, skewness: float, number: int) -> float:
    scaled = skewness / np.sqrt(number)
    if abs(scaled) < 1e-6:
        return quantile
    return float(3.0 / scaled * (np.cbrt(1.0 + scaled * (quantile - scaled / 6.0)) - 1.0))


_WINDOW = 20_000
"""annotations"""
_FEWEST = 20
"""answers from which their price is measured, and no longer that of [cost] seconds_per_answer"""
_COST_TAIL = 0.01
"""of the sum of a night's answers; times are skewed, so that it fails in up to 0.06 of nights"""
_HOUR = 3600.0
_NEWCOMER = ""


class Costed(NamedTuple):
    """One annotation with what it cost."""

    work: Work
    minutes: float
    money: float
    """in [cost] currency"""


@dataclass(frozen=True, kw_only=True, slots=True)
class Price:
    """What an answer costs, skips and deleted annotations included, in [cost] currency."""

    mean: float
    low: float
    """of the 0.95 interval of the mean"""
    high: float
    most: float
    """upper end of what an answer costs, averaged over as many as a night asks for"""
    num_answers: int
    """that it was measured on; 0: it is assumed"""


@dataclass(frozen=True, kw_only=True, slots=True)
class Costs:
    """What the newest annotations cost, and what is to be expected of the next ones."""

    rows: tuple[Costed, ...]
    """oldest first"""
    cuts: Mapping[str, Cut]
    """person -> when an annotation of theirs was left open, and what it counts"""
    cut: Cut | None
    """the same of everyone else; None before anything was measured"""
    usual_seconds: float
    """what an annotation takes of which the time was not measured"""
    prices: Mapping[str, Price]
    """of an answer of EVERYONE and of EXPERTS"""


def read_costs(connection: Connection, project: Project) -> Costs:
    """The newest annotations with what they cost, and the price of an answer."""
    work = recent_work(connection, _WINDOW)
    cuts, cut = _cuts(work)
    usual = _usual_seconds(work, cuts, cut, project.cost)
    rows = tuple(_costed(one, cuts.get(one.annotator, cut), usual, project.cost) for one in work)
    return Costs(
        rows=rows,
        cuts=cuts,
        cut=cut,
        usual_seconds=usual,
        prices={
            audience: _price(
                [one for one in rows if audience_of(one.work.purpose) == audience],
                audience,
                project,
            )
            for audience in (EVERYONE, EXPERTS)
        },
    )


def per_hour(cost: Cost, annotator: str) -> float:
    """What an hour of somebody's work costs."""
    return cost.per_hour_of.get(annotator, cost.per_hour)


def _cuts(work: Sequence[Work]) -> tuple[dict[str, Cut], Cut | None]:
    """When each person, and somebody who is not known, has left a labeling task open.

    It counts as an ordinary one, see `flywheel.annotators.pace`.
    """
    seconds: defaultdict[str, list[float]] = defaultdict(list)
    for one in work:
        if one.seconds is not None:
            seconds[one.annotator].append(one.seconds)
    if not seconds:
        return {}, None
    everyone = [value for of in seconds.values() for value in of]
    paces = measure_pace({**seconds, _NEWCOMER: [float(np.median(everyone))]})
    cuts = {person: Cut(60.0 * one.cap, 60.0 * one.mean) for person, one in paces.items()}
    return cuts, cuts.pop(_NEWCOMER, None)


def _usual_seconds(
    work: Sequence[Work], cuts: Mapping[str, Cut], cut: Cut | None, cost: Cost
) -> float:
    timed = [
        _counted(one.seconds, cuts.get(one.annotator, cut))
        for one in work
        if one.seconds is not None
    ]
    return cost.seconds_per_answer if len(timed) < _FEWEST else float(np.mean(timed))


def _costed(one: Work, cut: Cut | None, usual: float, cost: Cost) -> Costed:
    seconds = usual if one.seconds is None else _counted(one.seconds, cut)
    return Costed(one, seconds / 60.0, seconds * per_hour(cost, one.annotator) / _HOUR)


def _counted(seconds: float, cut: Cut | None) -> float:
    return cut.counts if cut is not None and seconds > cut.above else max(seconds, 0.0)


def _price(rows: Sequence[Costed], audience: str, project: Project) -> Price:
    money = np.array([one.money for one in rows])
    given = np.array([float(one.work.is_given) for one in rows])
    mean = ratio(money, given) if given.sum() >= _FEWEST else None
    if mean is None:
        assumed = project.cost.seconds_per_answer * _dearest(audience, project) / _HOUR
        return Price(mean=assumed, low=assumed, high=assumed, most=assumed, num_answers=0)
    number = _answers_of_a_night(project, mean.value)
    noise = float(stats.norm.isf(_COST_TAIL)) * spread_of(money, given) / np.sqrt(number)
    return Price(
        mean=mean.value,
        low=mean.low,
        high=mean.high,
        most=mean.value + float(np.hypot(mean.high - mean.value, noise)),
        num_answers=mean.num_samples,
    )


def _answers_of_a_night(project: Project, price: float) -> int:
    """As many as the settings ask for, or as the money allows."""
    number = project.labeling.samples_per_night * project.labeling.annotations_per_sample
    money = project.cost.per_night
    return number if money is None or price <= 0 else max(min(number, int(money / price)), 1)


def _dearest(audience: str, project: Project) -> float:
    """The dearest hour of those who may answer; of experts who are not named, of anyone."""
    cost, experts = project.cost, project.annotators.experts
    if audience == EXPERTS and experts:
        return max(per_hour(cost, one) for one in experts)
    others = [cost.per_hour_of[one] for one in cost.per_hour_of if one not in experts]
    return max([cost.per_hour, *others])
