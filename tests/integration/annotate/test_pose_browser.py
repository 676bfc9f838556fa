"""An annotator marks keypoints in a real browser, and the right pose comes back."""

import dataclasses
from datetime import UTC, datetime

import numpy as np
import pytest
from playwright.sync_api import expect

from flywheel.annotate import make_labels
from flywheel.examples.pose import load_part, pose_task
from flywheel.examples.pose.part import EXAMPLE_PART
from flywheel.examples.pose.posing import project, read_pose
from flywheel.examples.pose.start import start_examples

NOW = datetime(2026, 3, 2, tzinfo=UTC)
_DRAWN_MS, _SETTLED_MS = 4_000, 250
"""until the canvas is drawn, and until a region knows that it was touched"""

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def part():
    return load_part(EXAMPLE_PART)


@pytest.fixture(scope="module")
def examples(part):
    """Two pictures with their true poses."""
    return list(start_examples(part, 2, 0))


@pytest.fixture
def letters(letters):
    """The project, with the pose task in place of letters."""
    return dataclasses.replace(letters, task=pose_task(EXAMPLE_PART, 2, 0))


@pytest.fixture
def screen(page):
    """(percent of the picture) -> where that is on the screen."""

    def find(x, y):
        picture = page.locator(".konvajs-content canvas").first.bounding_box()
        side = picture["height"]  # square, and as high as the canvas
        return picture["x"] + x / 100 * side, picture["y"] + y / 100 * side

    return find


def places(part, pose):
    """Name -> percent of the picture, of every keypoint."""
    pixels = project(pose.transform(np.array(list(part.keypoints.values()))), pose.camera)
    return dict(zip(part.keypoints, ((pixels + 0.5) / 64 * 100).tolist(), strict=True))


def click(page, place):
    page.mouse.click(*place)
    page.wait_for_timeout(_SETTLED_MS)


def drag(page, start, end):
    page.mouse.move(*start)
    page.mouse.down()
    page.mouse.move(*end, steps=8)
    page.mouse.up()
    page.wait_for_timeout(_SETTLED_MS)
    page.keyboard.press("Escape")
    page.wait_for_timeout(_SETTLED_MS)


def test_moved_deleted_and_placed_keypoints_come_back_as_the_right_pose(
    letters, send_now, pull_now, page, screen, part, examples, annotators
):
    [sample_id] = letters.choose_samples([examples[0].sample], examples[1].answer)
    page.goto(f"{send_now().project_url}?labeling=1")
    expect(page.get_by_test_id("bottombar-submit-button")).to_be_visible(timeout=60_000)
    page.wait_for_timeout(_DRAWN_MS)
    shown = places(part, read_pose(examples[1].answer))
    wanted = places(part, read_pose(examples[0].answer))
    click(page, screen(*shown["notch"]))
    page.keyboard.press("Backspace")
    for name in [name for name in wanted if name != "notch"]:
        drag(page, screen(*shown[name]), screen(*wanted[name]))
    page.keyboard.press(str(list(wanted).index("notch") + 1))
    click(page, screen(*wanted["notch"]))
    click(page, screen(*wanted["wall_slope"]))
    page.get_by_text("hidden").first.click()
    page.get_by_test_id("bottombar-submit-button").click()
    expect(page.get_by_text("No more tasks")).to_be_visible(timeout=30_000)
    assert pull_now().num_annotations == 1
    make_labels(letters.ledger, letters.task, letters.project, NOW, 1)
    [answer] = letters.labels(sample_id)
    scores = letters.task.scores(answer, examples[0].answer)
    assert scores["error_cm"] < 0.3
    assert scores["error_deg"] < 1.0
    [annotation] = annotators.task(letters.tasks()[sample_id][1])["annotations"]
    said = [
        region["value"]["choices"]
        for region in annotation["result"]
        if "choices" in region["value"]
    ]
    assert said == [["hidden"]]
