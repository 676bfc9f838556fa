"""The money of a night and of a month: what was spent, what is committed, what may still be asked.

Committed are the answers that people were asked for and have not given, at the upper end of what
one costs, so that the budgets hold when they come. Refuses to know what is worth asking.
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
"""currency; what costs less is free"""


@dataclass(frozen=True, kw_only=True, slots=True)
class Allowance:
    """One of the two budgets, in [cost] currency."""

    limit: float | None
    """None: not limited"""
    spent: float
    """on answers that came; of a night it counts as committed"""
    committed: float
    """at the upper end of what answers cost"""

    @property
    def left(self) -> float | None:
        """What may still be committed; None without a limit, 0 when it is used up."""
        return None if self.limit is None else max(self.limit - self.spent - self.committed, 0.0)


@dataclass(frozen=True, kw_only=True, slots=True)
class Budget:
    """Where the money stands."""

    night: int
    month: str
    """such as 2026-03, of schedule.timezone"""
    tonight: Allowance
    """what this night has asked for; what of it came does not matter"""
    this_month: Allowance
    asked: Mapping[Purpose, int]
    """answers, by this night"""
    still_open: Mapping[Purpose, int]
    """answers, of all nights"""
    prices: Mapping[str, Price]
    """of an answer of EVERYONE and of EXPERTS"""

    def affords(self, purpose: Purpose | None = None) -> int | None:
        """How many more answers may be asked for; None where money limits nothing.

        Args:
            purpose: of the asking; None is any mixture, at the price of the dearest.
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
    """What was spent and is committed, tonight and this month.

    Args:
        connection: to the ledger.
        project: its [cost], [annotators] and schedule.timezone.
        costs: as read from the same ledger.
        night: whose routing spends.
        now: says which month it is.
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
    """How many more answers a night may ask for under [cost] per_night and per_month.

    As many asked for leave both budgets unbroken, whichever samples they are about. Without a
    purpose they may be of any; when all are asked of the same people, name it: experts cost more.

    Returns:
        0 when nothing is left; None where money limits nothing.
    """
    if project.cost.per_night is None and project.cost.per_month is None:
        return None
    costs = read_costs(connection, project)
    return read_budget(connection, project, costs, night, now).affords(purpose)


def _prices(project: Project, costs: Costs) -> dict[str, Price]:
    """Where nobody is named an expert, nobody is asked as one."""
    everyone = costs.prices[EVERYONE]
    return {
        EVERYONE: everyone,
        EXPERTS: costs.prices[EXPERTS] if project.annotators.experts else everyone,
    }


def _bill(answers: Mapping[Purpose, int], prices: Mapping[str, Price]) -> float:
    return sum(number * prices[audience_of(purpose)].most for purpose, number in answers.items())


def _whole(allowance: Allowance, each: float) -> int:
    """How many more of a price fit; 0.1 is ten times in 1, whatever a computer makes of it."""
    limit, used = allowance.limit or 0.0, allowance.spent + allowance.committed
    number = max(int((limit - used) / each) + 1, 0)
    while number > 0 and used + number * each > limit * (1.0 + _ROUNDING):
        number -= 1
    return number


def _spent(connection: Connection, project: Project, costs: Costs, since: datetime) -> float:
    total = 0.0
    for one in spent_since(connection, since, costs.cuts, costs.cut):
        seconds = one.seconds + (one.num_annotations - one.num_timed) * costs.usual_seconds
        total += seconds * per_hour(project.cost, one.annotator) / _HOUR
    return total
