"""Cost of annotation: minutes and money of each annotation, and the price of an answer.

Only the newest annotations count, so that the work is bounded. Money is computed from the time
that Label Studio measured; a labeling task that was left open counts as an average one. `ratio`
gives costs per unit with an interval that allows for skewed times: a few answers take much longer
than most, and Student's interval alone would end too early at its upper end.

A budget says what was spent and committed in a night and a month, and what may still be requested.
Committed are the answers that were requested and not given yet, at the upper end of the price of an
answer, so that the budgets hold once they arrive.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple
from zoneinfo import ZoneInfo

import numpy as np
import scipy
from sqlalchemy import Connection

from flywheel.annotators.pace import measure_pace
from flywheel.ledger.annotators import Cut, Work, recent_work, spent_since
from flywheel.ledger.campaigns import EVERYONE, EXPERTS, audience_of
from flywheel.ledger.requests import answers_open, asked_in
from flywheel.project import Project
from flywheel.records import Array, Estimate, Purpose
from flywheel.settings.labeling import Cost

FEWEST = 5
"""units below which there is no estimate"""
_TAIL = 0.025
_UNSEEN = 5.0
"""multiple of the mean that a kind of unit not seen so far may take"""

WINDOW = 20_000
"""newest annotations that count"""
_FEWEST = 20
"""answers from which the price is measured; below, [cost] seconds_per_answer is used"""
_COST_TAIL = 0.01
"""nominal share of nights that cost more than the upper end; up to 0.06, as times are skewed"""
_HOUR = 3600.0
_NEWCOMER = ""


def ratio(totals: Array, counts: Array) -> Estimate | None:
    """Return the mean cost of one counted thing with a 95 % interval; None with too little data.

    Formula: R = sum t / sum k over N units. Its interval is the hull of Student's, with the
    linearised variance sum (t - R k)^2 N / (N - 1) / (sum k)^2, and of Hall's, which corrects for
    the skewness of t - R k: R - s / sqrt N g(q), g(q) = 3 sqrt N / c ((1 + c / sqrt N
    (q - c / (6 sqrt N)))^(1/3) - 1) with the skewness c and Student's quantiles q. If all N
    units are equal, a share 1 - 0.025^(1/N) may be unseen units that take nothing, or five times
    as much.
    Source: Hall, Journal of the Royal Statistical Society B 54 (1992) 221; the rule of three.
    Departure: the hull of both; Student's quantiles in place of the normal ones.

    Args:
        totals: (N,) cost of each unit, 0 or more.
        counts: (N,) number of counted things in each unit, 0 or more.
    """
    number, brought = len(totals), float(counts.sum()) if len(counts) else 0.0
    if number < FEWEST or np.count_nonzero(counts) < FEWEST:
        return None
    value = float(totals.sum()) / brought
    low, high = _bounds((totals - value * counts) * number / brought, value)
    return Estimate(value=value, low=max(low, 0.0), high=high, num_samples=round(brought))


def spread_of(totals: Array, counts: Array) -> float:
    """Return the standard deviation of the cost of one counted thing; see `ratio`."""
    brought = float(counts.sum())
    errors = totals - float(totals.sum()) / brought * counts
    return float(np.sqrt((errors**2).sum() / max(brought - 1.0, 1.0)))


def _bounds(errors: Array, value: float) -> tuple[float, float]:
    """Return the interval of a mean, from the (N,) deviations from it."""
    number = len(errors)
    deviation = float(np.sqrt((errors**2).sum() / (number - 1)))
    if deviation <= 1e-9 * abs(value):
        unseen = 1.0 - _TAIL ** (1.0 / number)
        return (1.0 - unseen) * value, (1.0 + (_UNSEEN - 1.0) * unseen) * value
    step = deviation / np.sqrt(number)
    quantile = float(scipy.stats.t.isf(_TAIL, number - 1))
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


class Costed(NamedTuple):
    """An annotation with its cost."""

    work: Work
    minutes: float
    money: float
    """in [cost] currency"""


@dataclass(frozen=True, kw_only=True, slots=True)
class Price:
    """Price of an answer in [cost] currency, with skips and deleted annotations included."""

    mean: float
    low: float
    """lower end of the 95 % interval of the mean"""
    high: float
    most: float
    """upper end of the average price over as many answers as a night requests"""
    num_answers: int
    """answers that it was measured on; 0: it is assumed"""


@dataclass(frozen=True, kw_only=True, slots=True)
class Costs:
    """Cost of the newest annotations, and the expected price of the next ones."""

    rows: tuple[Costed, ...]
    """oldest first"""
    cuts: Mapping[str, Cut]
    """annotator -> time from which a labeling task was left open, and the time counted then"""
    cut: Cut | None
    """the same for other annotators; None before anything was measured"""
    usual_seconds: float
    """time counted for an annotation without a measured time"""
    prices: Mapping[str, Price]
    """price of an answer, by audience: EVERYONE and EXPERTS"""


def read_costs(connection: Connection, project: Project, window: int = WINDOW) -> Costs:
    """Read the newest annotations with their cost, and compute the price of an answer."""
    work = recent_work(connection, window)
    cuts, cut = _cuts(work)
    usual = _usual_seconds(work, cuts, cut, project.cost)
    rows = tuple(_costed(done, cuts.get(done.annotator, cut), usual, project.cost) for done in work)
    return Costs(
        rows=rows,
        cuts=cuts,
        cut=cut,
        usual_seconds=usual,
        prices={
            audience: _price(
                [row for row in rows if audience_of(row.work.purpose) == audience],
                audience,
                project,
            )
            for audience in (EVERYONE, EXPERTS)
        },
    )


def per_hour(cost: Cost, annotator: str) -> float:
    """Return what an hour of an annotator's work costs."""
    return cost.per_hour_of.get(annotator, cost.per_hour)


def _cuts(work: Sequence[Work]) -> tuple[dict[str, Cut], Cut | None]:
    """Return the cut of each annotator, and of an unknown one, for labeling tasks left open.

    Those count as average ones, see `flywheel.annotators.pace`.
    """
    seconds: defaultdict[str, list[float]] = defaultdict(list)
    for done in work:
        if done.seconds is not None:
            seconds[done.annotator].append(done.seconds)
    if not seconds:
        return {}, None
    everyone = [value for values in seconds.values() for value in values]
    paces = measure_pace({**seconds, _NEWCOMER: [float(np.median(everyone))]})
    cuts = {annotator: Cut(60.0 * pace.cap, 60.0 * pace.mean) for annotator, pace in paces.items()}
    return cuts, cuts.pop(_NEWCOMER, None)


def _usual_seconds(
    work: Sequence[Work], cuts: Mapping[str, Cut], cut: Cut | None, cost: Cost
) -> float:
    timed = [
        _counted(done.seconds, cuts.get(done.annotator, cut))
        for done in work
        if done.seconds is not None
    ]
    return cost.seconds_per_answer if len(timed) < _FEWEST else float(np.mean(timed))


def _costed(work: Work, cut: Cut | None, usual: float, cost: Cost) -> Costed:
    seconds = usual if work.seconds is None else _counted(work.seconds, cut)
    return Costed(work, seconds / 60.0, seconds * per_hour(cost, work.annotator) / _HOUR)


def _counted(seconds: float, cut: Cut | None) -> float:
    return cut.counts if cut is not None and seconds > cut.above else max(seconds, 0.0)


def _price(rows: Sequence[Costed], audience: str, project: Project) -> Price:
    money = np.array([row.money for row in rows])
    given = np.array([float(row.work.is_given) for row in rows])
    mean = ratio(money, given) if given.sum() >= _FEWEST else None
    if mean is None:
        assumed = project.cost.seconds_per_answer * _highest_rate(audience, project) / _HOUR
        return Price(mean=assumed, low=assumed, high=assumed, most=assumed, num_answers=0)
    number = _answers_of_a_night(project, mean.value)
    noise = float(scipy.stats.norm.isf(_COST_TAIL)) * spread_of(money, given) / np.sqrt(number)
    return Price(
        mean=mean.value,
        low=mean.low,
        high=mean.high,
        most=mean.value + float(np.hypot(mean.high - mean.value, noise)),
        num_answers=mean.num_samples,
    )


def _answers_of_a_night(project: Project, price: float) -> int:
    """Return how many answers the settings request, or the money allows."""
    number = project.labeling.samples_per_night * project.labeling.annotations_per_sample
    money = project.cost.per_night
    return number if money is None or price <= 0 else max(min(number, int(money / price)), 1)


def _highest_rate(audience: str, project: Project) -> float:
    """Return the highest hourly rate of those who may answer; of all, if no experts are named."""
    cost, experts = project.cost, project.annotators.experts
    if audience == EXPERTS and experts:
        return max(per_hour(cost, expert) for expert in experts)
    others = [rate for annotator, rate in cost.per_hour_of.items() if annotator not in experts]
    return max([cost.per_hour, *others])


_ROUNDING = 1e-12
_NOTHING = 1e-6
"""in [cost] currency; an answer that costs less is free"""


@dataclass(frozen=True, kw_only=True, slots=True)
class Allowance:
    """One of the two budgets, in [cost] currency."""

    limit: float | None
    """None: not limited"""
    spent: float
    """on answers that were given; always 0 for a night, whose answers count as committed"""
    committed: float
    """for answers not given yet, at the upper end of their price"""

    @property
    def left(self) -> float | None:
        """Return what may still be committed; None without a limit, 0 if it is used up."""
        return None if self.limit is None else max(self.limit - self.spent - self.committed, 0.0)


@dataclass(frozen=True, kw_only=True, slots=True)
class Budget:
    """The two budgets, with the answers and prices that they rest on."""

    night: int
    month: str
    """such as 2026-03, in schedule.timezone"""
    tonight: Allowance
    """for all answers that this night requested, given or not"""
    this_month: Allowance
    asked: Mapping[Purpose, int]
    """answers requested by this night"""
    still_open: Mapping[Purpose, int]
    """answers not given yet, of all nights"""
    prices: Mapping[str, Price]
    """price of an answer, by audience: EVERYONE and EXPERTS"""

    def affords(self, purpose: Purpose | None = None) -> int | None:
        """Return how many more answers may be requested; None if money is no limit.

        Args:
            purpose: purpose of the request; None is any mixture, at the highest price.
        """
        if purpose is None:
            each = max(price.most for price in self.prices.values())
        else:
            each = self.prices[audience_of(purpose)].most
        if each < _NOTHING:
            return None
        limits = [
            _whole(allowance, each)
            for allowance in (self.tonight, self.this_month)
            if allowance.limit is not None
        ]
        return min(limits) if limits else None


def read_budget(
    connection: Connection, project: Project, costs: Costs, night: int, now: datetime
) -> Budget:
    """Read the budgets of a night and of the current month.

    Args:
        connection: to the ledger.
        project: its [cost], [annotators] and schedule.timezone are used.
        costs: read from the same ledger.
        night: night that requests answers.
        now: determines the month.
    """
    cost, prices = project.cost, _prices(project, costs)
    start = now.astimezone(ZoneInfo(project.schedule.timezone))
    start = start.replace(day=1, hour=0, minute=0, second=0, microsecond=0)
    asked, still_open = asked_in(connection, night), answers_open(connection)
    return Budget(
        night=night,
        month=f"{start:%Y-%m}",
        tonight=Allowance(limit=cost.per_night, spent=0.0, committed=_bill(asked, prices)),
        this_month=Allowance(
            limit=cost.per_month,
            spent=_spent(connection, project, costs, start),
            committed=_bill(still_open, prices),
        ),
        asked=asked,
        still_open=still_open,
        prices=prices,
    )


def affordable_answers(
    connection: Connection,
    project: Project,
    night: int,
    now: datetime,
    *,
    purpose: Purpose | None = None,
) -> int | None:
    """Return how many more answers a night may request under [cost] per_night and per_month.

    That many exceed neither budget, whichever samples they are about. If all have one purpose,
    name it, since experts cost more; without one any mixture is affordable.

    Returns:
        0 if nothing is left; None if money is no limit.
    """
    if project.cost.per_night is None and project.cost.per_month is None:
        return None
    costs = read_costs(connection, project)
    return read_budget(connection, project, costs, night, now).affords(purpose)


def _prices(project: Project, costs: Costs) -> dict[str, Price]:
    """Return the price by audience; without named experts, reviews cost what everyone costs."""
    everyone = costs.prices[EVERYONE]
    return {
        EVERYONE: everyone,
        EXPERTS: costs.prices[EXPERTS] if project.annotators.experts else everyone,
    }


def _bill(answers: Mapping[Purpose, int], prices: Mapping[str, Price]) -> float:
    return sum(number * prices[audience_of(purpose)].most for purpose, number in answers.items())


def _whole(allowance: Allowance, each: float) -> int:
    """Return how many more answers fit; the rounding tolerance lets 0.1 fit ten times into 1."""
    limit, used = allowance.limit or 0.0, allowance.spent + allowance.committed
    number = max(int((limit - used) / each) + 1, 0)
    while number > 0 and used + number * each > limit * (1.0 + _ROUNDING):
        number -= 1
    return number


def _spent(connection: Connection, project: Project, costs: Costs, since: datetime) -> float:
    total = 0.0
    for spent in spent_since(connection, since, costs.cuts, costs.cut):
        seconds = spent.seconds + (spent.num_annotations - spent.num_timed) * costs.usual_seconds
        total += seconds * per_hour(project.cost, spent.annotator) / _HOUR
    return total
