"""Pictures of cases: what a task draws when it can, and a reason where there is no picture."""

import base64
import dataclasses
import io

import pytest
from PIL import Image

from flywheel.errors import TaskError
from flywheel.ledger.failures import failures_of_night
from flywheel.records import FailureState, Verdict
from flywheel.report.kit.tables import _small, show_cases


@pytest.fixture
def shown(story):
    """(drawing) -> the cases of a night whose first half got a label, by what the label is."""
    story.whole_night(0, Verdict.HOLD)

    def run(drawing):
        task = dataclasses.replace(story.loop.task, drawing=drawing)
        with story.loop.ledger.read() as connection:
            cases = failures_of_night(connection, 0, FailureState.SEEN, 24)
        return show_cases(dataclasses.replace(story.loop, task=task), cases, 50)

    return run


def colour_of(one):
    data = base64.b64decode(one.uri.partition(",")[2])
    return Image.open(io.BytesIO(data)).convert("RGB").getpixel((0, 0))


def red_png():
    data = io.BytesIO()
    Image.new("RGB", (8, 8), "red").save(data, "PNG")
    return data.getvalue()


def test_a_task_that_draws_is_shown_answer_and_label(shown):
    given = []
    pictures = shown(lambda sample, *drawn: given.append((sample.id, *drawn)) or red_png())
    assert {colour_of(one) for one in pictures} == {(255, 0, 0)}
    expected = [
        (one.case.sample_id, one.case.answer, one.case.label and one.case.label.answer)
        for one in pictures
    ]
    assert given == expected
    assert "blue" in {label for *_, label in given}


def test_a_task_that_does_not_draw_shows_what_people_label(shown):
    assert (255, 0, 0) not in {colour_of(one) for one in shown(None)}


@pytest.mark.parametrize("error", [TaskError, KeyError, TypeError])
def test_an_answer_that_cannot_be_drawn_leaves_a_reason(shown, error):
    def drawing(sample, answer, label):
        raise error("no pose")

    assert all(one.uri is None and "no pose" in one.fault for one in shown(drawing))


def test_a_picture_of_a_few_pixels_is_enlarged_so_that_they_are_seen():
    data = io.BytesIO()
    Image.new("L", (8, 6), 200).save(data, "PNG")
    uri = _small(data.getvalue(), 96)
    shown = Image.open(io.BytesIO(base64.b64decode(uri.partition(",")[2])))
    assert shown.size == (96, 72)
