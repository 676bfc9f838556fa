"""Budgets hold: whatever was asked, spent and measured, what is affordable never breaks one."""

from contextlib import ExitStack, closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flywheel.annotate.cost import (
    Allowance,
    Budget,
    Price,
    affordable_answers,
    audience_of,
    read_budget,
    read_costs,
)
from flywheel.ledger import Ledger
from flywheel.ledger.campaigns import EVERYONE, EXPERTS
from flywheel.project import Project
from flywheel.records import Purpose
from flywheel.testing import LedgerBuilder

NIGHT = 7
SHARP = 1 + 1e-11


def make_project(annotators=None, timezone="UTC", **cost):
    return Project(
        directory=Path("nowhere"),
        project={"name": "toy", "task": "a:b"},
        cost={"per_hour": 36.0, "seconds_per_answer": 10.0} | cost,
        annotators=annotators or {},
        schedule={"timezone": timezone},
    )


@pytest.fixture
def look(crew):
    """(project, now) -> the budget."""

    def run(project, now=None):
        with crew.ledger.read() as connection:
            costs = read_costs(connection, project)
            return read_budget(connection, project, costs, NIGHT, now or crew.now)

    return run


@pytest.fixture
def afford(crew):
    def run(project, now=None, **which):
        with crew.ledger.read() as connection:
            return affordable_answers(connection, project, NIGHT, now or crew.now, **which)

    return run


def test_without_a_limit_money_limits_nothing(afford, look):
    assert afford(make_project()) is None
    budget = look(make_project())
    assert (budget.tonight.left, budget.this_month.left) == (None, None)


def test_a_night_pays_for_as_many_answers_as_fit(afford):
    assert afford(make_project(per_night=1.0)) == 10
    assert afford(make_project(per_night=0.09)) == 0


def test_annotators_who_cost_nothing_are_not_limited(afford):
    assert afford(make_project(per_night=1.0, per_hour=0.0)) is None


def test_what_the_night_asked_before_is_taken_off_answered_or_not(afford, crew):
    first, *_ = crew.ask(3, num_annotators=2, night=NIGHT)
    crew.ask(5, night=NIGHT - 1)
    crew.answer(first, "ada")
    assert afford(make_project(per_night=1.0)) == 4


def test_the_month_counts_what_was_spent_and_what_is_to_come(look, crew, afford):
    one, two = crew.ask(2, num_annotators=2, night=1)
    crew.answer(one, "ada", 50.0)
    crew.answer(two, "ada", 10.0, skipped=True)
    crew.answer(one, "ben", 20.0, updated_at=crew.now - timedelta(days=1))
    project = make_project(per_month=2.0)
    month = look(project).this_month
    assert (month.spent, month.committed) == (pytest.approx(0.6), pytest.approx(0.2))
    assert month.left == pytest.approx(1.2)
    assert afford(project) == 12


def test_the_month_is_the_calendars_where_the_project_is(look, crew):
    [sample] = crew.ask(1)
    crew.answer(sample, "ada", 50.0, updated_at=datetime(2026, 1, 31, 23, 30, tzinfo=UTC))
    now = datetime(2026, 2, 1, 12, tzinfo=UTC)
    assert look(make_project(), now).this_month.spent == 0.0
    budget = look(make_project(timezone="Europe/Berlin"), now)
    assert (budget.month, budget.this_month.spent) == ("2026-02", 0.5)


def test_the_tighter_budget_decides(afford):
    assert afford(make_project(per_night=5.0, per_month=1.0)) == 10
    assert afford(make_project(per_night=1.0, per_month=5.0)) == 10


def test_of_any_purpose_only_as_many_as_the_dearest_annotators_would_cost(afford):
    project = make_project(
        annotators={"deep_experts": ("eve",)}, per_hour_of={"eve": 144.0}, per_night=1.0
    )
    assert afford(project) == 2
    assert afford(project, purpose=Purpose.CHOICE) == 10
    assert afford(project, purpose=Purpose.GOLD) == 10
    assert afford(project, purpose=Purpose.REVIEW) == 2


def test_where_no_annotator_is_named_an_expert_a_review_costs_what_others_do(afford):
    assert afford(make_project(per_night=1.0), purpose=Purpose.REVIEW) == 10


def test_a_budget_that_is_used_up_leaves_nothing_and_owes_nothing(afford, look, crew):
    crew.ask(30, night=NIGHT)
    project = make_project(per_night=1.0)
    assert afford(project) == 0
    assert look(project).tonight.left == 0.0


prices = st.floats(0.0, 50.0)
purses = st.builds(
    Allowance,
    limit=st.one_of(st.none(), st.floats(0.01, 1e4)),
    spent=st.floats(0.0, 1e4),
    committed=st.floats(0.0, 1e4),
)


@given(purses, purses, prices, prices, st.sampled_from((None, *Purpose)))
def test_what_is_affordable_fits_into_both_budgets_and_one_more_would_not(
    tonight, month, everyone, experts, purpose
):
    price = {EVERYONE: everyone, EXPERTS: experts}
    budget = Budget(
        night=0,
        month="2026-01",
        tonight=tonight,
        this_month=month,
        asked={},
        still_open={},
        prices={
            who: Price(mean=0, low=0, high=0, most=most, num_answers=0)
            for who, most in price.items()
        },
    )
    number = budget.affords(purpose)
    each = max(price.values()) if purpose is None else price[audience_of(purpose)]
    limited = [allowance for allowance in (tonight, month) if allowance.limit is not None]
    if number is None:
        assert not limited or each < 1e-6
        return
    used = [(allowance.spent + allowance.committed, allowance.limit) for allowance in limited]
    assert number == 0 or all(paid + number * each <= limit * SHARP for paid, limit in used)
    assert any(paid + (number + 1) * each > limit for paid, limit in used)


answers = st.lists(
    st.tuples(
        st.sampled_from(("ada", "ben", "eve")),
        st.one_of(st.none(), st.just(0.0), st.floats(0.01, 1e5)),
        st.sampled_from(Purpose),
        st.booleans(),
    ),
    max_size=60,
)
asked = st.lists(
    st.tuples(st.sampled_from(Purpose), st.integers(1, 5), st.booleans(), st.booleans()),
    max_size=12,
)
money = st.one_of(st.none(), st.floats(0.01, 100.0))
projects = st.builds(
    lambda rates, limits, has_experts: make_project(
        annotators={"deep_experts": ("eve",)} if has_experts else {},
        per_hour_of=rates,
        per_night=limits[0],
        per_month=limits[1],
    ),
    st.dictionaries(st.sampled_from(("ada", "ben", "eve")), st.floats(0.0, 200.0)),
    st.tuples(money, money),
    st.booleans(),
)


@settings(max_examples=20, deadline=None)
@given(projects, answers, asked, st.sampled_from((None, *Purpose)))
def test_asking_as_much_as_is_affordable_leaves_both_budgets_unbroken(
    project, came, open_still, purpose
):
    """Whatever was asked, answered and measured before, and of whichever annotators."""
    with TemporaryDirectory() as folder, ExitStack() as stack:
        ledger = stack.enter_context(closing(Ledger.open(f"sqlite:///{folder}/l.db")))
        crew = LedgerBuilder(ledger)
        _happened(crew, came, open_still)
        with ledger.read() as connection:
            number = affordable_answers(connection, project, NIGHT, crew.now, purpose=purpose)
        mixed = [purpose] if purpose else list(Purpose)
        for index, why in enumerate(mixed):
            share = (number or 0) // len(mixed) + (index < (number or 0) % len(mixed))
            if share:
                crew.ask(1, purpose=why, num_annotators=share, night=NIGHT)
        with ledger.read() as connection:
            costs = read_costs(connection, project)
            budget = read_budget(connection, project, costs, NIGHT, crew.now)
            left = affordable_answers(connection, project, NIGHT, crew.now, purpose=purpose)
    if number:
        for allowance in (budget.tonight, budget.this_month):
            bound = float("inf") if allowance.limit is None else allowance.limit * SHARP
            assert allowance.spent + allowance.committed <= bound
        assert purpose is None or left == 0


def _happened(crew, came, open_still):
    """Answers that came in night 1, and askings of then and of tonight that are still open."""
    by_purpose = {}
    for why in Purpose:
        number = sum(one[2] is why for one in came)
        by_purpose[why] = crew.ask(number, purpose=why, night=1) if number else []
    for person, taken, why, is_skip in came:
        crew.answer(by_purpose[why].pop(), person, taken, purpose=why, skipped=is_skip)
    for why, num_annotators, is_tonight, is_sent in open_still:
        night = NIGHT if is_tonight else 2
        [sample] = crew.ask(
            1, purpose=why, num_annotators=num_annotators, night=night, sent=is_sent
        )
        if is_sent and num_annotators > 1:
            crew.answer(sample, "ada", 5.0, purpose=why)
