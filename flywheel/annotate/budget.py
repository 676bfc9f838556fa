"""The money of a night and of a month: spent, committed, and what may still be requested.

Committed are the answers that were requested and not given yet, at the upper end of the price of
an answer, so that the budgets hold once they arrive.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from zoneinfo import ZoneInfo

from sqlalchemy import Connection

from flywheel.annotate.cost import Costs, Price, per_hour, read_costs
from flywheel.ledger.annotators import spent_since
from flywheel.ledger.campaigns import EVERYONE, EXPERTS, audience_of
from flywheel.ledger.requests import answers_open, asked_in
from flywheel.project import Project
from flywheel.records import Purpose

_HOUR = 3600.0
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
