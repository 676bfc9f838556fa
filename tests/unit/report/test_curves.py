"""What levels cost, as it is drawn: the numbers of the table, and nothing where a level is out of reach."""

import dataclasses
import math
import re
from xml.etree import ElementTree as ET

import pytest
from worlds.pages import client_of

from flywheel.decide.curve import Outlook
from flywheel.records import Estimate
from flywheel.report.kit.curves import cost_curve
from flywheel.report.kit.pages import render
from flywheel.report.overview.ahead import steps_sheet
from flywheel.report.overview.page import write_overview

POINTS = (
    (0.8, Outlook(20.0, 60.0, 300.0)),
    (0.9, Outlook(50.0, 390.0, math.inf)),
    (0.95, Outlook(100.0, math.inf, math.inf)),
    (1.0, Outlook(math.inf, math.inf, math.inf)),
)


def places(curve):
    """Element -> the levels and costs at which it is drawn, read off the drawing."""
    root = ET.fromstring(render("curve.html", curve=curve))
    first, last = curve.points[0][0], curve.points[-1][0]

    def read(x, y):
        place = (float(x) - 66) / 244 * 1.3 - 0.1
        return first + place * (last - first), (222 - float(y)) / 204 * curve.ticks[-1]

    found = {
        "dots": [read(one.get("cx"), one.get("cy")) for one in root.iter("circle")],
        "never": [read(one.get("x"), 0)[0] for one in root.iter("text") if one.text == "never"],
    }
    for name, path in (("line", root.find("g/polyline").get("points")), ("band", of(root, "band"))):
        numbers = re.findall(r"[\d.]+", path)
        found[name] = [read(*pair) for pair in zip(numbers[::2], numbers[1::2], strict=True)]
    required = of(root, "required")
    found["required"] = required and read(re.findall(r"[\d.]+", required)[0], 0)[0]
    return found


def of(root, name):
    return next((one.get("d") for one in root.iter("path") if one.get("class") == name), None)


def near(curve, pairs):
    """The same, but for the rounding of a place to a hundredth of a pixel."""
    return [
        (pytest.approx(x, abs=1e-4), pytest.approx(y, abs=curve.ticks[-1] / 10_000))
        for x, y in pairs
    ]


def test_the_points_are_the_numbers_of_the_table_and_the_requirement_is_marked(assessed):
    sheet = steps_sheet(assessed)
    drawn, curve = places(sheet.curve), sheet.curve
    costs = [(level, labels.middle * assessed.price.value) for level, labels in assessed.steps]
    never = [level for level, cost in costs if math.isinf(cost)]
    costs = [(level, cost) for level, cost in costs if math.isfinite(cost)]
    assert drawn["dots"] == drawn["line"] == near(curve, costs)
    assert [f"{math.ceil(cost):,}" for _, cost in costs] == [
        row[2].split(" [")[0] for row in sheet.rows[: len(costs)]
    ]
    assert drawn["required"] == pytest.approx(0.95, abs=1e-4)
    assert drawn["never"] == pytest.approx(never, abs=1e-4)


def test_what_is_out_of_reach_is_no_point_of_the_curve():
    curve = cost_curve("correct", "EUR", POINTS, None)
    drawn = places(curve)
    assert drawn["dots"] == drawn["line"] == near(curve, [(0.8, 60.0), (0.9, 390.0)])
    assert drawn["never"] == pytest.approx([0.95, 1.0], abs=1e-4)
    assert drawn["required"] is None


def test_the_band_goes_to_the_top_where_it_has_no_end():
    curve = cost_curve("correct", "EUR", POINTS, None)
    assert curve.ticks == [0, 100, 200, 300, 400]
    lows = [(0.8, 20.0), (0.9, 50.0), (0.95, 100.0)]
    assert places(curve)["band"] == near(curve, [*lows, (0.95, 400), (0.9, 400), (0.8, 300)])


def test_a_metric_that_falls_is_drawn_with_what_is_harder_to_the_right():
    points = [(level, Outlook(cost, cost, cost)) for level, cost in ((4.0, 1.0), (2.0, 9.0))]
    curve = cost_curve("error_cm.mean", "labels", points, 1.9)
    assert curve.right(4.0) < curve.right(2.0) < curve.right(1.9) < 1
    assert places(curve)["required"] == pytest.approx(1.9, abs=1e-3)


def test_a_requirement_that_is_far_from_all_levels_is_neither_marked_nor_named(assessed):
    assert "Red: the requirement" in steps_sheet(assessed).caption
    goals = tuple(dataclasses.replace(goal, bound=0.1) for goal in assessed.goals)
    sheet = steps_sheet(dataclasses.replace(assessed, goals=goals))
    assert places(sheet.curve)["required"] is None
    assert "Red: the requirement" not in sheet.caption


def test_without_a_price_it_is_labels(assessed):
    for price in (None, Estimate(value=0.0, low=0.0, high=0.0, num_samples=9)):
        curve = steps_sheet(dataclasses.replace(assessed, price=price)).curve
        assert (curve.unit, curve.points) == ("labels", assessed.steps)


def test_the_site_and_the_overview_draw_the_same(month, assessed):
    drawn = render("curve.html", curve=steps_sheet(assessed).curve)
    assert drawn in client_of(month).get("/pages/assess").text
    assert drawn in write_overview(month).read_text()


@pytest.mark.parametrize("points", [(), POINTS[2:], (POINTS[0], POINTS[0])])
def test_nothing_in_reach_is_no_drawing(points):
    assert cost_curve("correct", "EUR", points, 0.9) is None


def test_a_name_of_a_metric_is_no_markup():
    assert "<b>" not in render("curve.html", curve=cost_curve("<b>", "EUR", POINTS, None))
