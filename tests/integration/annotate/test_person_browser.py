"""An annotator's path through Label Studio's own pages, in a real browser: each step comes back right."""

import pytest
from playwright.sync_api import expect
from sqlalchemy import select

from flywheel.annotate import PullResult
from flywheel.ledger.tables import annotations

pytestmark = pytest.mark.integration

_SECONDS = 1_000
_SETTLED_MS = 700
"""until the page knows that a choice was made"""


@pytest.fixture
def standing(letters):
    """sample id -> answer, whether it was skipped, whether it is gone."""

    def read():
        columns = (annotations.c.sample_id, annotations.c.answer, annotations.c.skipped)
        with letters.ledger.read() as connection:
            rows = connection.execute(select(*columns, annotations.c.deleted_at))
            return {row[0]: (row[1], row[2], row[3] is not None) for row in rows}

    return read


@pytest.fixture
def stream(page):
    """Open the stream of labeling tasks of a project, as the button Label All Tasks does."""

    def run(project_url):
        page.goto(f"{project_url}?labeling=1")
        expect(page.get_by_test_id("bottombar-submit-button")).to_be_visible(timeout=60 * _SECONDS)
        page.wait_for_timeout(_SETTLED_MS)

    return run


def press(page, button):
    page.get_by_test_id(f"bottombar-{button}-button").click()
    page.wait_for_timeout(_SETTLED_MS)


def test_correct_skip_update_and_delete_come_back_right(
    letters, send_now, pull_now, page, stream, standing
):
    corrected, skipped = letters.choose(b"x1", b"x2", answer="a")
    url = send_now().project_url
    stream(url)
    page.keyboard.press("2")  # the key of choice b
    page.wait_for_timeout(_SETTLED_MS)
    press(page, "submit")
    expect(page.get_by_test_id("bottombar-skip-button")).to_be_enabled(timeout=30 * _SECONDS)
    press(page, "skip")
    page.wait_for_timeout(3 * _SECONDS)
    assert pull_now() == PullResult(num_annotations=1, num_skipped=1)
    assert standing() == {corrected: ("b", False, False), skipped: (None, True, False)}

    number = letters.tasks()[corrected][1]
    page.goto(f"{url}?task={number}")
    expect(page.get_by_test_id("bottombar-update-button")).to_be_visible(timeout=60 * _SECONDS)
    page.wait_for_timeout(_SETTLED_MS)
    page.keyboard.press("3")
    page.wait_for_timeout(_SETTLED_MS)
    press(page, "update")
    page.wait_for_timeout(2 * _SECONDS)
    assert pull_now() == PullResult(num_annotations=1)
    assert standing()[corrected] == ("c", False, False)

    page.goto(f"{url}?task={number}")
    expect(page.get_by_test_id("bottombar-update-button")).to_be_visible(timeout=60 * _SECONDS)
    page.locator(".lsf-annotation-button__trigger").first.click()
    page.get_by_text("Delete Annotation").first.click()
    page.get_by_role("button", name="Delete", exact=True).click()
    page.wait_for_timeout(2 * _SECONDS)
    assert pull_now() == PullResult(num_deleted=1)
    assert standing()[corrected] == ("c", False, True)
    assert letters.tasks()[corrected][0] == "sent"  # open again, for the next annotator
