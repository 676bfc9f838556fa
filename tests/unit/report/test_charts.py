"""Charts: the same bytes for the same numbers, the page's colours, and any name."""

import io
import re
import xml.etree.ElementTree as ET

import matplotlib as mpl
import pytest
from PIL import Image

from flywheel.records import Entry, Estimate
from flywheel.report.kit import charts

NAMES = ["candidate", "champion", "_hidden", "$x_", "<b>&", "a" * 200, "名前", ""]


def near(value):
    return Estimate(value=value, low=value - 0.1, high=value + 0.1, num_samples=9)


def rows(names):
    return [Entry(name=name, kind="scripted", metric=near(0.5)) for name in names]


def line(name):
    return charts.Line(name=name, points=((0, near(0.5)), (1, near(0.6))))


def parsed(svg):
    return ET.fromstring(svg.replace("xlink:href", "href"))


@pytest.mark.parametrize("name", NAMES)
def test_any_name_gives_well_formed_svg(name):
    parsed(charts.interval_chart(rows([name]), None, name, name))
    parsed(charts.history_chart([line(name)], 0.9, "metric", name))


def test_the_same_numbers_give_the_same_bytes():
    first, second = (charts.interval_chart(rows(["a", "b"]), 0.9, "m", "t") for _ in range(2))
    assert first == second


def test_every_colour_is_a_variable_of_the_page():
    svg = charts.history_chart([line("candidate"), line("champion"), line("c")], 0.9, "m", "t")
    assert {"var(--candidate)", "var(--champion)", "var(--required)"} <= set(
        re.findall(r"var\(--\w+\)", svg)
    )
    assert re.findall(r"(?:fill|stroke): #\w+", svg) == []


def test_text_stays_text_and_names_what_it_shows():
    svg = charts.interval_chart(rows(["candidate"]), None, "error_cm", 'who "won"')
    assert "error_cm" in "".join(parsed(svg).itertext())
    assert parsed(svg).attrib["aria-label"] == 'who "won"'


def test_a_missing_value_is_written_out():
    svg = charts.interval_chart([Entry(name="people", kind="human", metric=None)], None, "m", "t")
    assert "not enough data" in "".join(parsed(svg).itertext())


def test_the_models_and_the_requirement_come_first_in_the_legend():
    lines = [line("majority"), line("champion"), line("candidate")]
    said = "".join(parsed(charts.history_chart(lines, 0.9, "m", "t")).itertext()).split()
    names = [word for word in said if word in {"majority", "champion", "candidate", "requirement"}]
    assert names[:3] == ["candidate", "champion", "requirement"]


def test_the_loss_picture_is_a_png_of_moderate_size():
    data = charts.loss_picture([2.0, 1.0, 0.5])
    assert Image.open(io.BytesIO(data)).format == "PNG"
    assert len(data) < 50_000
    assert charts.loss_picture([2.0, 1.0, 0.5]) == data


def test_settings_of_matplotlib_are_left_as_they_were():
    before = dict(mpl.rcParams)
    charts.loss_chart([1.0, 0.5], "t")
    assert dict(mpl.rcParams) == before


def test_a_picture_for_other_pages_is_white_behind_its_ink_and_not_transparent():
    """A dashboard may be dark."""
    data = charts.history_picture([line("candidate")], None, "m")
    assert Image.open(io.BytesIO(data)).convert("RGBA").getpixel((0, 0)) == (255, 255, 255, 255)
