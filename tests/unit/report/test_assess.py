"""What requirements still take: reached, so many labels, out of reach, or too early to say; never silence."""

import dataclasses
import json
import math
import re

import pytest
from pydantic_core import to_json
from worlds import years
from worlds.figures import abstention
from worlds.years import START, open_year

from flywheel.decide.curve import Measured, Outlook, fit_curve
from flywheel.decide.worth import worth_of
from flywheel.records import Estimate, Probe
from flywheel.report.assess import Goal, _goal, _saving, _with_costs, assess
from flywheel.report.labeling.facts import read_labeling
from flywheel.report.overview.ahead import ahead_sheet, goals_sheet, steps_sheet
from flywheel.settings.labeling import Value

PROBE = {
    "dataset_id": "d",
    "night": 30,
    "num_fixed": 100,
    "is_start": False,
    "device": "cpu",
    "train_seconds": 1.0,
    "created_at": START,
}


@pytest.fixture
def found(assessed):
    return assessed


def test_each_requirement_has_labels_nights_and_money_or_says_why_not(found):
    rows = {row[0]: row for row in goals_sheet(found).rows}
    _, now, labels, nights, money, hours, means = rows["error_cm.p90 < 1"]
    assert all("[" in cell for cell in (now, labels, nights, money, hours))
    assert means.startswith("more labels reach it")
    reached = ("", "", "", "", "reached: the whole interval is beyond it")
    assert rows["confidence.mean > 0.5"][2:] == reached
    assert rows["latency_ms.p95 < 1.5"][2:-1] == ("",) * 4
    assert rows["latency_ms.p95 < 1.5"][-1].startswith("labels do not change it")
    assert "0 numbers of labels were measured, 3 are needed" in rows["recall > 0.9"][-1]


def test_no_number_stands_without_its_interval(found):
    for goal in found.goals:
        assert goal.labels is None or goal.labels.low <= goal.labels.middle <= goal.labels.high
    for _, outlook in found.ahead:
        assert outlook.low < outlook.middle < outlook.high
    assert [labels // found.ahead[0][0] for labels, _ in found.ahead] == [1, 2, 4, 8]


def test_forecasts_are_compared_with_what_came(found):
    assert 0 <= found.held <= found.num_checked == 10
    assert (
        f"Of 10 nights that were checked {found.held} lay in the 80 % interval"
        in goals_sheet(found).note
    )


def test_as_json_nothing_is_infinite(found):
    never = dataclasses.replace(found.goals[3], labels=Outlook(1.0, math.inf, math.inf))
    known = dataclasses.replace(found, goals=(*found.goals[:3], never, found.goals[4]))
    plain = json.loads(to_json(known, inf_nan_mode="null"))
    assert [goal["bound"] for goal in plain["goals"]] == [0.95, 0.5, 1.0, 1.5, 0.9]
    assert plain["goals"][3]["labels"]["high"] is None
    assert plain["price"]["low"] < plain["price"]["value"]


def test_what_the_next_labels_return_is_said_in_money(found):
    """A label costs 0.27 EUR, so that 100 that return 2 [1, 3] EUR a night are paid after 14 nights."""
    rich = dataclasses.replace(found, worth=Outlook(1.0, 2.0, 3.0), deferred=None)
    assert re.search(
        r"The next 100 labels that train bring .* for 28 \[25, 30\] EUR, and return 2\.000 \[1\.000, 3\.000\] EUR a "
        r"night: they have paid for themselves after 14 \[10, 28\] nights",
        ahead_sheet(rich).note,
    )
    poor = dataclasses.replace(found, worth=Outlook(-0.1, 0.001, 0.2))
    assert "less than they cost within a year. Stop labeling" in ahead_sheet(poor).note
    free = dataclasses.replace(found, worth=None)
    assert "needs [value] right and wrong" in ahead_sheet(free).note


def test_what_is_deferred_now_and_with_the_next_labels_is_said(found):
    """A right answer is worth 0.02 EUR, a wrong one costs 0.10; the threshold of the year answers 58.5 %."""
    one = worth_of(found.gain, 1, Value(right=0.02, wrong=-0.1), abstention(), 100)
    answers = found.worth.middle / one.money.middle
    assert 20 < answers < 30  # of a night
    assert found.worth.low == pytest.approx(one.money.low * answers)
    assert found.deferred.then == one.deferred.then
    assert found.deferred.now.low < found.deferred.now.middle < found.deferred.now.high
    assert found.deferred.now.middle == pytest.approx(0.415)
    said = r"EUR a night, with 3\d\.\d % \[[23]\d(\.\d)? %, [34]\d\.\d %\] of production deferred in place of 41\.5 % \[3\d\.\d %, 4\d\.\d %\]: "
    assert re.search(said, ahead_sheet(found).note)


@pytest.mark.parametrize("nights", [0, 1])
def test_before_three_nights_it_is_too_early(nights, tmp_path):
    with open_year(tmp_path, nights) as loop:
        found = assess(loop, read_labeling(loop).whole)
    assert all(goal.labels is None and goal.note for goal in found.goals)
    assert "numbers of labels were measured, 3 are needed" in ahead_sheet(found).note
    assert found.gain is None


@pytest.fixture
def measured_night(loop, story, judged):
    """(night, value) -> the stored report of a night whose candidate reached a value."""
    version = story.version()

    def run(night, value, **changes):
        grown = dataclasses.replace(version, id=f"{night}" * 64, num_train=100 + 50 * night)
        known = Estimate(value=value, low=value - 0.01, high=value + 0.01, num_samples=50)
        entries = tuple(
            dataclasses.replace(one, metric=known) if one.name == "candidate" else one
            for one in judged[0].entries
        )
        where = {"night": night, "id": f"{night}r" * 32, "dataset_id": grown.id}
        report = dataclasses.replace(judged[0], entries=entries, **(where | changes))
        story.past.night()
        story.past.store(grown, report)
        story.past.end(night)

    return run


def test_nights_of_another_metric_are_no_part_of_the_curve(loop, measured_night):
    for night in range(6):
        measured_night(night, 0.5 + 0.01 * night, metric_id="a" if night < 4 else "b")
    assert [labels for labels, _ in assess(loop, read_labeling(loop).whole).points] == [300, 350]


def test_training_is_counted_in_hours_which_grow_with_the_labels(found):
    """A night trains for 12.3 s."""
    goal = next(goal for goal in found.goals if goal.formula == "error_cm.p90")
    assert found.per_night == pytest.approx(6.76, abs=0.01)
    assert goal.nights.middle == pytest.approx(goal.labels.middle / found.per_night)
    assert goal.hours.middle == pytest.approx(goal.nights.middle * 12.3 / 3600)
    assert goals_sheet(found).headings[5] == "hours on cpu"
    grows = [dataclasses.replace(one, seconds=one.labels / 10) for one in found.training]
    slower = _with_costs(dataclasses.replace(found, training=tuple(grows)), goal, 396)
    assert slower.hours.middle > 3 * goal.hours.middle
    assert math.isinf(slower.hours.high) == math.isinf(goal.labels.high)


def test_labels_drawn_by_chance_are_compared_with_those_that_are_chosen(found):
    curve = fit_curve(
        [Measured(*one) for one in found.points], window=7, higher_is_better=True, optimum=1.0
    )
    reached = found.points[-8][1]
    random = Probe(**PROBE, rows="random", num_train=396, values={"correct": reached})
    saving = _saving(curve, [random], "correct")
    assert (saving.drawn, saving.value) == (296, reached)
    assert saving.needs.low < saving.needs.middle < saving.needs.high
    known = dataclasses.replace(found, saving=saving)
    said = r"296 labels drawn by chance alone reach .*; of the labels as they are chosen it takes [\d,]+ \["
    assert re.search(said, ahead_sheet(known).note)
    assert _saving(curve, [dataclasses.replace(random, is_start=True)], "correct") is None
    assert "flywheel assess --train measures it" in ahead_sheet(found).note


def test_what_stays_as_it_is_is_out_of_reach_and_the_tightest_baseline_is_the_reason():
    same = Estimate(value=0.8, low=0.78, high=0.82, num_samples=400)
    flat = [Measured(100 * 2**at, same, at) for at in range(6)]
    goal = Goal(formula="correct", bound=0.95, is_upper=False, now=None)
    curve = fit_curve(flat, window=7, higher_is_better=True, optimum=1.0)
    found = _goal(goal, flat, [], curve, "; the tightest baseline, nearest, is at 0.82")
    assert re.match(
        r"out of reach with this model, with a probability of \d+%; the tightest", found.note
    )
    assert math.isinf(found.labels.middle)
    assert found.never > 0.5


def test_each_further_step_of_accuracy_costs_more(found):
    rows = steps_sheet(found).rows
    labels = [outlook.middle for _, outlook in found.steps]
    assert labels == sorted(labels)
    assert labels[2] - labels[1] > labels[1] - labels[0]
    assert all("[" in cell for cell in rows[0][1:])
    assert (
        "3 are needed"
        in steps_sheet(dataclasses.replace(found, steps=(), points=(), parts=())).note
    )


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"cost": {"per_hour": 0.0}}, "for 0 EUR"),
        (
            {"value": {"right": -0.1, "wrong": 0.1}},
            "nothing, as a right answer has to bring more than a wrong one",
        ),
        (
            {"value": {"right": 0.02, "wrong": -0.02, "deferred": 0.3}},
            "or what is then answered is worth less than deferred: lower abstain.max_failure_rate",
        ),
        ({"metric": {"requirement": 0.1}}, "100 labels that train bring"),
    ],
)
def test_odd_costs_values_and_requirements_have_an_answer(changes, said, tmp_path, monkeypatch):
    for section, keys in changes.items():
        monkeypatch.setitem(years.SECTIONS, section, years.SECTIONS[section] | keys)
    with open_year(tmp_path, 8) as loop:
        found = assess(loop, read_labeling(loop).whole)
    assert said in ahead_sheet(found).note
    if "metric" in changes:
        assert found.goals[0].note == "reached: the whole interval is beyond it"
    for sheet in (goals_sheet(found), steps_sheet(found), ahead_sheet(found)):
        assert "nan" not in str(sheet)
