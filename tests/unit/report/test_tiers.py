"""People as a baseline: every tier with its slices, and what one of its answers costs."""

import dataclasses

import pytest

from flywheel.records import Estimate, TierSlice
from flywheel.report.kit.measured import annotators_sheet, tier_of, tiers_sheet
from flywheel.settings.labeling import AnnotatorSettings
from flywheel.testing import LedgerBuilder


def near(value):
    return Estimate(value=value, low=value - 0.05, high=value + 0.05, num_samples=30)


@pytest.fixture
def sliced(judged):
    parts = (
        TierSlice(tier="random person", name="dark", metric=near(0.8), num_samples=30),
        TierSlice(tier="random person", name="bright", metric=None, num_samples=3),
    )
    return dataclasses.replace(judged[0], people_slices=parts)


def test_people_are_of_the_tier_that_the_settings_name():
    annotators = AnnotatorSettings(domain_experts=("dan",), deep_experts=("eve",))
    found = [tier_of(one, annotators) for one in ("ada", "dan", "eve")]
    assert found == ["random person", "domain expert", "deep expert"]


def test_a_tier_stands_over_its_slices_with_intervals_and_the_cost_of_an_answer(sliced):
    rows = tiers_sheet(sliced, {"random person": near(0.25)}, "EUR").rows
    place = [row[0] for row in rows].index("random person")
    assert rows[place : place + 3] == (
        ("random person", "0.910 [0.870, 0.950]", "40", "0.250 [0.200, 0.300]"),
        ("on dark", "0.800 [0.750, 0.850]", "30", ""),
        ("on bright", "not enough data", "3", ""),
    )


def test_a_tier_that_nobody_was_paid_for_has_no_cost(sliced):
    costs = {row[-1] for row in tiers_sheet(sliced, {}, "EUR").rows}
    assert costs == {"not enough data", ""}


def test_a_report_without_slices_of_people_says_so(judged):
    assert "No tier has enough answers for slices yet" in tiers_sheet(judged[0], {}, "EUR").note
    bare = dataclasses.replace(judged[0], entries=())
    assert tiers_sheet(bare, {}, "EUR").note == "This report has no tier of annotators."


def test_an_answer_costs_what_members_of_the_tier_were_paid(loop, sliced):
    crew = LedgerBuilder(loop.ledger)
    for sample in crew.ask(6):
        crew.answer(sample, "ada", 60.0)
    rows = {row[0]: row[-1] for row in annotators_sheet(loop, sliced).rows if row[0]}
    assert rows["random person"].startswith("0.500 [")
