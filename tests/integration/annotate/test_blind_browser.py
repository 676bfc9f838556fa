"""What two annotators see of one blind labeling task, in real browsers."""

import uuid

import pytest
from playwright.sync_api import expect

from flywheel.annotate.backend import NewLabelingTask
from flywheel.examples.annotators import Crowd, Person

pytestmark = pytest.mark.integration

CONFIG = """<View>
  <Image name="image" value="$image"/>
  <Choices name="letter" toName="image" choice="single" showInline="true">
    <Choice value="a"/>
    <Choice value="b"/>
  </Choices>
</View>"""
_SETTLED_MS = 700
"""until the page knows that a choice was made"""


def _item(key: str, num_annotators: int, letter: str | None) -> NewLabelingTask:
    region = {"id": "r1", "type": "choices", "from_name": "letter", "to_name": "image"}
    return NewLabelingTask(
        key=key * 64,
        sample_id=key * 64,
        data={"image": "/static/images/opossum_looking.svg"},
        result=[{**region, "value": {"choices": [letter]}}] if letter else [],
        priority=0.9 if num_annotators > 1 else 0.1,
        num_annotators=num_annotators,
        shown={},
    )


def _is_answer(response) -> bool:
    return response.request.method == "POST" and "/annotations" in response.url


def _answer(page, url, key):
    """Open the stream, choose a letter by its key, submit; which were chosen before."""
    page.goto(f"{url}?labeling=1")
    expect(page.get_by_test_id("bottombar-submit-button")).to_be_visible(timeout=60_000)
    page.wait_for_timeout(_SETTLED_MS)
    chosen = page.locator("input[type=checkbox]:checked, input[type=radio]:checked").count()
    page.keyboard.press(key)
    page.wait_for_timeout(_SETTLED_MS)
    with page.expect_response(_is_answer):
        page.get_by_test_id("bottombar-submit-button").click()
    return chosen


def test_two_annotators_answer_one_blind_labeling_task_each_once(label_studio, studio, page):
    project = studio.ensure(f"blind {uuid.uuid4().hex[:8]}", CONFIG, None)
    ids = studio.push(project.id, [_item("1", 2, None), _item("2", 1, "a")])
    chosen = [_answer(page, project.url, "1"), _answer(page, project.url, "2")]
    assert chosen == [0, 1]  # the blind one is empty, the other one pre-filled
    page.goto(f"{project.url}?labeling=1")
    expect(page.get_by_text("No more tasks")).to_be_visible(timeout=30_000)
    name = f"{uuid.uuid4().hex[:8]}@example.com"
    crowd = Crowd(label_studio.url, label_studio.email, label_studio.password, ())
    session = crowd._enter(Person(email=name, password="password-of-a-person"))
    cookies = [
        {"name": cookie.name, "value": cookie.value, "url": label_studio.url}
        for cookie in session.cookies.jar
    ]
    session.close()
    page.context.clear_cookies()
    page.context.add_cookies(cookies)
    assert _answer(page, project.url, "2") == 0
    expect(page.get_by_text("No more tasks")).to_be_visible(timeout=30_000)
    found = {one.external_id: one for one in studio.changed_since(project.id, None)}
    said = {
        one.annotator: one.result[0]["value"]["choices"] for one in found[ids["1" * 64]].annotations
    }
    assert said == {label_studio.email: ["a"], name: ["b"]}
    assert all(one.is_finished for one in found.values())
