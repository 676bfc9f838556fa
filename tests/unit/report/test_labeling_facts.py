"""What the page of labeling is made of, read from a real ledger."""

import dataclasses
from datetime import timedelta

import pytest
from sqlalchemy import update

from flywheel.ledger.annotators import Measured, save_annotators
from flywheel.ledger.tables import labeling_tasks
from flywheel.records import Purpose
from flywheel.report.labeling.facts import read_labeling
from flywheel.testing import LedgerBuilder


@pytest.fixture
def crew(loop):
    crew = LedgerBuilder(loop.ledger)
    crew.now = loop.now()
    return crew


@pytest.fixture
def read(loop):
    """(**project's sections) -> the facts."""

    def run(**sections):
        project = loop.project
        for name, values in sections.items():
            section = getattr(project, name).model_copy(update=values)
            project = project.model_copy(update={name: section})
        return read_labeling(dataclasses.replace(loop, project=project))

    return run


def test_an_empty_ledger_has_nothing_to_tell(read):
    facts = read()
    assert (facts.annotators, facts.campaigns, facts.disputed) == ((), (), ())
    assert (facts.whole.money, facts.whole.money_per_label, facts.trend) == (0.0, None, None)
    assert (facts.queue.oldest, facts.report) == (None, None)


def test_each_person_has_their_work_their_gold_and_what_is_known_of_them(read, crew):
    one, two = crew.ask(2, num_annotators=2)
    gold, other = crew.ask(2, purpose=Purpose.GOLD, num_annotators=2)
    crew.label([gold, other], answer="cat")
    crew.answer(one, "ada", 60.0)
    crew.answer(two, "ada", 30.0, skipped=True)
    crew.answer(one, "eve", 60.0, refused="two choices")
    crew.answer(gold, "ada", purpose=Purpose.GOLD)
    crew.answer(other, "ada", purpose=Purpose.GOLD, answer="dog")
    known = Measured(annotator="ada", reliability=0.8, low=0.6, high=0.9, num_answers=3, num_gold=2)
    with crew.ledger.begin() as connection:
        save_annotators(connection, [known], crew.now)
    ada, eve = read(annotators={"deep_experts": ("eve",)}, cost={"per_hour": 60.0}).annotators
    assert (ada.name, ada.tier, ada.measured) == ("ada", "random person", known)
    assert (ada.count.num_answers, ada.count.num_skipped) == (3, 1)
    assert (ada.num_gold_right, ada.num_gold) == (1, 2)
    assert ada.expense.money == pytest.approx((60 + 30 + 30 + 30) / 60)
    assert (eve.tier, eve.count.num_refused, eve.measured) == ("deep expert", 1, None)


def test_pace_is_told_for_days_with_several_answers_where_the_project_is(read, crew):
    evening = crew.now.replace(hour=23, minute=30)
    for number, sample in enumerate(crew.ask(7)):
        at = evening if number < 4 else evening - timedelta(days=2)
        crew.answer(sample, "ada", 60.0, updated_at=at - timedelta(days=3))
    old = crew.ask(3)
    for sample in old:
        crew.answer(sample, "ada", 60.0, updated_at=evening - timedelta(days=90))
    there = read(schedule={"timezone": "Europe/Berlin"}).annotators[0].pace
    days = [(evening - timedelta(days=back)).date() for back in (4, 2)]
    assert [(day, round(minutes, 6)) for day, minutes in there] == [(day, 1.0) for day in days]
    assert [day for day, _ in read().annotators[0].pace] == [
        day - timedelta(days=1) for day in days
    ]


def test_disputed_is_what_enough_people_answered_without_a_label(read, crew):
    agreed, split, start, single = crew.ask(4, num_annotators=2)
    for sample in (agreed, split, start):
        crew.answer(sample, "ada")
        crew.answer(sample, "ben", answer="dog")
    crew.answer(single, "ada")
    crew.label([agreed])
    crew.label([start], source="start")
    crew.ask([split], purpose=Purpose.REVIEW)
    facts = read(labeling={"annotations_per_sample": 2})
    [one] = facts.disputed
    assert (one.sample_id, one.num_answers, one.is_reviewed) == (split, 2, True)
    assert (facts.num_disputed, facts.reviews) == (1, {"sent": 1})


def test_campaigns_count_what_is_open_done_and_withdrawn(read, crew):
    done, gone, _ = crew.ask(3)
    with crew.ledger.begin() as connection:
        for sample, state in ((done, "done"), (gone, "withdrawn")):
            mine = labeling_tasks.c.sample_id == sample
            connection.execute(update(labeling_tasks).where(mine).values(state=state))
    facts = read()
    assert facts.states == {1: {"sent": 1, "done": 1, "withdrawn": 1}}
    assert [one.title for one in facts.campaigns] == ["toy everyone"]


def test_the_oldest_is_the_one_that_waited_longest(read, crew):
    crew.now -= timedelta(days=9)
    crew.ask(1)
    crew.now += timedelta(days=9)
    crew.ask(1)
    assert read().queue.oldest == crew.now - timedelta(days=9)


def test_nights_are_those_that_asked_and_the_trend_needs_five(read, crew):
    for night in range(6):
        samples = crew.ask(8, night=night)
        for sample in samples:
            crew.answer(sample, "ada", 60.0 * 0.9**night)
        crew.label(samples)
    facts = read()
    assert list(facts.nights) == [0, 1, 2, 3, 4, 5]
    assert facts.nights[0].num_labels == 8
    assert facts.trend.value == pytest.approx(-0.1, abs=1e-6)
