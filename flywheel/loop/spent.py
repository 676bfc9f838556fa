"""Which budgets of labeling are used up, once a night has asked for what it could."""

from __future__ import annotations

from flywheel.annotate.budget import Purse, read_budget
from flywheel.annotate.cost import read_costs
from flywheel.ledger.requests import answers_asked
from flywheel.loop.context import NightRun


def spent_budgets(night: NightRun) -> list[str]:
    """Those that do not pay for one more answer: answers, night (its money), month (its money)."""
    loop, settings = night.loop, night.loop.project.labeling
    with loop.ledger.read() as connection:
        total = settings.samples_per_night * settings.annotations_per_sample
        left = total - answers_asked(connection, night.number)
        spent = ["answers"] if left < settings.annotations_per_sample else []
        if loop.project.cost.per_night is None and loop.project.cost.per_month is None:
            return spent
        costs = read_costs(connection, loop.project)
        budget = read_budget(connection, loop.project, costs, night.number, loop.now())
    least = min(price.most for price in budget.prices.values())
    purses = {"night": budget.tonight, "month": budget.this_month}
    return spent + [name for name, purse in purses.items() if _is_spent(purse, least)]


def _is_spent(purse: Purse, least: float) -> bool:
    return purse.left is not None and purse.left < least
