"""The page of what the nights brought: it shows what it is given, and needs nothing from anywhere."""

import re
from types import SimpleNamespace

import numpy as np
import pytest

from flywheel.examples.story import STORY_PAGE, Pair, Story, _worst, write_story
from flywheel.records import Answer, Estimate
from flywheel.report.kit.charts import Line
from flywheel.report.kit.samples import Part
from flywheel.report.kit.tables import Sheet
from flywheel.testing import toy_task


def line(name, *values):
    points = [(n, Estimate(value=v, low=v, high=v, num_samples=9)) for n, v in enumerate(values)]
    return Line(name=name, points=tuple(points))


@pytest.fixture
def page(loop):
    """(lines, pairs) -> the page."""

    def write(lines, pairs=()):
        sheet = Sheet(key="numbers", title="Numbers", headings=("night",), rows=(("7",),))
        story = Story(
            lead="Measured <by> nobody.",
            lines=tuple(lines),
            label="error_deg",
            required=5.0,
            sheets=(sheet,),
            pairs=tuple(pairs),
        )
        (loop.project.state / "reports").mkdir(parents=True, exist_ok=True)
        (loop.project.state / "reports/night-0001.html").write_text("")
        path = write_story(loop, story)
        assert path.name == STORY_PAGE
        return path.read_text(encoding="utf-8")

    return write


def test_every_arm_is_in_the_curve_and_every_night_is_linked(page):
    text = page([line("champion", 9.0, 4.0), line("random labels", 9.0, 6.0)])
    assert {"champion", "random labels"} <= set(re.findall(r">([^<>]+)</text>", text))
    assert 'href="night-0001.html"' in text
    assert "Measured &lt;by&gt; nobody." in text


def test_without_a_number_there_is_no_curve(page):
    assert "<svg" not in page([line("champion")])


def test_pictures_stand_side_by_side_with_their_numbers(page):
    before, after = (
        (Part(name="drawing", kind="image", uri=f"data:,{name}"),) for name in ("a", "b")
    )
    pair = Pair(name="s1", before=before, after=after, change="error_deg 9 -> 2")
    text = page([line("champion", 1.0)], [pair])
    assert text.index('src="data:,a"') < text.index('src="data:,b"') < text.index("9 -&gt; 2")


def test_it_runs_nothing_and_loads_nothing(page):
    text = page([line("champion", 1.0, 2.0)])
    assert not re.search(r"<(script|link|iframe|object)\b", text)


@pytest.mark.parametrize(("columns", "rows"), [([], [1, 2]), (["error_cm"], [1, 2, 0, 3])])
def test_pairs_are_of_the_largest_errors_or_else_of_wrong_answers(columns, rows):
    truths = ["left", "left", "right", "right"]
    exam = SimpleNamespace(arrivals=[SimpleNamespace(truth=one) for one in truths])
    said = ["left", "right", "left", "right"]
    answers = [Answer(value=one, confidence=0.5, embedding=np.zeros(1)) for one in said]
    assert _worst(toy_task(), columns, answers, exam) == rows
