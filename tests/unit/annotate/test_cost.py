"""What work costs: each annotator's hour, time that was lying open, and the price of an answer."""

import numpy as np
import pytest

from flywheel.annotate.cost import Costed, _price, read_costs
from flywheel.ledger.annotators import Work, spent_since
from flywheel.ledger.campaigns import EVERYONE, EXPERTS
from flywheel.project import Project
from flywheel.records import Purpose


@pytest.fixture
def project(tmp_path):
    """(cost, annotators, **labeling) -> a project whose annotators cost 36 an hour: a cent a second."""

    def build(cost=None, annotators=None, **labeling):
        return Project(
            directory=tmp_path,
            project={"name": "toy", "task": "a:b"},
            cost={"per_hour": 36.0, "seconds_per_answer": 10.0} | (cost or {}),
            annotators=annotators or {},
            labeling=labeling,
        )

    return build


@pytest.fixture
def costs(crew, project):
    """(**as of project) -> what was spent in the ledger."""

    def read(**changes):
        with crew.ledger.read() as connection:
            return read_costs(connection, project(**changes))

    return read


def answer_all(crew, seconds, person="ada", **asked):
    for sample, taken in zip(crew.ask(len(seconds), **asked), seconds, strict=True):
        crew.answer(sample, person, taken, purpose=asked.get("purpose", Purpose.CHOICE))


def test_before_anything_was_measured_the_settings_say_what_an_answer_costs(costs):
    found = costs()
    assert (found.rows, found.cuts, found.cut, found.usual_seconds) == ((), {}, None, 10.0)
    price = found.prices[EVERYONE]
    assert (price.mean, price.most, price.num_answers) == (0.1, 0.1, 0)


def test_until_twenty_are_measured_the_price_is_that_of_the_dearest_hour(costs, crew):
    answer_all(crew, [1.0] * 19)
    price = costs(cost={"per_hour_of": {"ben": 72.0}}).prices[EVERYONE]
    assert (price.most, price.num_answers) == (0.2, 0)


def test_each_annotator_has_their_own_hour(costs, crew):
    answer_all(crew, [10.0], "ada")
    answer_all(crew, [10.0], "ben")
    rows = costs(cost={"per_hour_of": {"ben": 72.0}}).rows
    assert [(one.work.annotator, one.money) for one in rows] == [("ada", 0.1), ("ben", 0.2)]
    assert rows[0].minutes == pytest.approx(1 / 6)


def test_a_labeling_task_that_lay_open_all_night_counts_as_an_ordinary_one(costs, crew):
    answer_all(crew, [*np.linspace(8, 12, 30), 40_000.0])
    found = costs()
    assert found.rows[-1].minutes * 60 == pytest.approx(10.0, rel=0.05)
    assert found.rows[0].minutes * 60 == pytest.approx(8.0)


def test_slow_annotators_are_cut_by_their_own_pace_and_newcomers_by_everyones(costs, crew):
    answer_all(crew, [10.0] * 40, "ada")
    answer_all(crew, [100.0] * 30, "ben")
    found = costs()
    assert found.cuts["ada"].above == pytest.approx(30.0)
    assert found.cuts["ben"].above == pytest.approx(300.0)
    assert found.cut.above == pytest.approx(30.0)
    assert found.cut.counts == pytest.approx(10.0)


def test_the_sum_of_a_month_is_the_sum_of_its_rows(costs, crew):
    """One is worked out by the database, the other here."""
    rng = np.random.default_rng(1)
    for person in ("ada", "ben"):
        answer_all(crew, [*rng.lognormal(2, 1, 40), 90_000.0, -1.0, None], person)
    found = costs()
    with crew.ledger.read() as connection:
        spent = spent_since(connection, crew.now, found.cuts, found.cut)
    total = sum(one.seconds + found.usual_seconds for one in spent)  # one of each was not timed
    assert total / 60 == pytest.approx(sum(one.minutes for one in found.rows))


def test_a_time_that_was_not_measured_is_the_usual_one(costs, crew):
    answer_all(crew, [None])
    assert costs().rows[0].minutes == pytest.approx(10 / 60)
    answer_all(crew, [30.0] * 20)
    assert costs().rows[0].minutes == pytest.approx(0.5)


def test_a_clock_that_runs_backwards_costs_nothing(costs, crew):
    answer_all(crew, [-3.0])
    assert costs().rows[0].money == 0.0


def test_an_answer_carries_the_skips_and_what_was_deleted(costs, crew):
    answer_all(crew, [10.0] * 30)
    for sample in crew.ask(10):
        crew.answer(sample, "ada", 10.0, skipped=True)
    for sample in crew.ask(5):
        crew.remove(sample, crew.answer(sample, "ada", 10.0))
    price = costs().prices[EVERYONE]
    assert price.mean == pytest.approx(0.1 * 45 / 30)
    assert price.num_answers == 30


def test_experts_have_a_price_of_their_own(costs, crew):
    answer_all(crew, [10.0] * 25, "ada")
    answer_all(crew, [60.0] * 25, "eve", purpose=Purpose.REVIEW)
    prices = costs(annotators={"deep_experts": ["eve"]}, cost={"per_hour_of": {"eve": 72.0}}).prices
    assert prices[EVERYONE].mean == pytest.approx(0.1)
    assert prices[EXPERTS].mean == pytest.approx(1.2)


def test_experts_who_were_never_asked_cost_the_dearest_of_their_hours(costs):
    annotators = {"deep_experts": ["eve"], "domain_experts": ["dan"]}
    found = costs(annotators=annotators, cost={"per_hour_of": {"eve": 72.0, "dan": 108.0}})
    assert found.prices[EXPERTS].most == pytest.approx(0.3)
    assert found.prices[EVERYONE].most == pytest.approx(0.1)


def test_fewer_answers_a_night_need_more_room_each(costs, crew):
    answer_all(crew, np.random.default_rng(0).lognormal(2, 0.8, 60))
    many, few = (costs(samples_per_night=n).prices[EVERYONE] for n in (400, 4))
    assert (many.mean, many.high) == (few.mean, few.high)
    assert many.high < many.most < few.most


def test_a_night_costs_what_it_may_cost_at_most_nearly_always(crew, project):
    """Over worlds in which 40 answers were measured, the next 50 together stay below 50 times it."""
    rng, kept = np.random.default_rng(5), []
    blank = Work("ada", "s", Purpose.CHOICE, None, 1, 0, 1.0, True, True, crew.now)
    for _ in range(600):
        seen, coming = (rng.lognormal(0, 0.8, number) for number in (40, 50))
        price = _price([Costed(blank, 0.0, one) for one in seen], EVERYONE, project())
        kept.append(coming.sum() <= 50 * price.most)
    assert np.mean(kept) > 0.94
