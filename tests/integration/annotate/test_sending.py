"""Sending to the real Label Studio: exactly once, and so that annotators can work."""

import httpx
import pytest

from flywheel.annotate import LabelStudioBackend
from flywheel.errors import FlywheelError, RefusedError, UnavailableError

pytestmark = pytest.mark.integration


def test_sending_twice_creates_nothing_twice(letters, send_now, annotators, project_id):
    ids = letters.choose(*(b"twice %d" % number for number in range(130)))
    assert [send_now().num_sent, send_now().num_sent] == [130, 0]
    sent = [task["data"]["sample_id"] for task in annotators.tasks(project_id)]
    assert sorted(sent) == sorted(ids)


class DiesAfterPush(LabelStudioBackend):
    """The process ends when the labeling tasks are there and the ledger does not know yet."""

    def push(self, project_id, items):
        super().push(project_id, items)
        raise KeyboardInterrupt


def test_a_kill_before_our_commit_creates_nothing_twice(
    letters, label_studio, send_now, annotators, project_id
):
    letters.choose(b"x1", b"x2")
    with pytest.raises(KeyboardInterrupt):
        send_now(DiesAfterPush.connect(label_studio.url, label_studio.token))
    assert len(annotators.tasks(project_id)) == 2
    assert send_now().num_sent == 2
    assert len(annotators.tasks(project_id)) == 2


def test_the_picture_that_annotators_see_is_the_task_s_picture(letters, send_now, annotators):
    (sample_id,) = letters.choose(b"x1")
    send_now()
    task = annotators.task(letters.tasks()[sample_id][1])
    (shown,) = annotators.tasks(task["project"])
    (sample,) = letters.samples([sample_id])
    media = letters.task.labeling.data(sample)["image"]
    assert annotators.http.get(shown["data"]["image"]).content == media.payload


def test_annotators_see_the_pre_annotation_and_why_they_are_asked(letters, send_now, annotators):
    (sample_id,) = letters.choose(b"x1", answer="c")
    send_now()
    task = annotators.task(letters.tasks()[sample_id][1])
    (prediction,) = task["predictions"]
    assert letters.task.labeling.answer(prediction["result"], None) == "c"
    assert (prediction["score"], prediction["model_version"]) == (0.0, "flywheel")
    assert task["data"]["model"] == "0123456789ab"
    assert (task["data"]["reason"], task["data"]["confidence"]) == ("low_confidence 0.70", 0.6)


def test_the_hardest_of_all_nights_comes_first_and_is_pre_filled(
    letters, send_now, annotators, project_id
):
    first = letters.choose(b"first 1", b"first 2", b"first 3", digest="a" * 64)
    send_now()
    second = letters.choose(b"second 1", b"second 2", digest="b" * 64)
    send_now()
    seen = []
    for _ in range(5):
        task = annotators.next(project_id)
        assert len(task["predictions"]) == 1
        seen.append(task["data"]["sample_id"])
        annotators.annotate(task["id"], letters.task.labeling.result("a", None))
    # Priorities 1, 2/3, 1/3 and 1, 1/2: ties in the order in which they came.
    assert seen == [first[0], second[0], first[1], second[1], first[2]]


def test_a_wrong_token_is_refused_by_name_and_never_shown(label_studio):
    with pytest.raises(RefusedError, match="LABEL_STUDIO_API_KEY") as error:
        LabelStudioBackend.connect(label_studio.url, "0000111122223333444455556666777788889999")
    assert "0000111122223333" not in str(error.value)


# The SDK refreshes such a token with a pydantic call that is deprecated.
@pytest.mark.filterwarnings("ignore:The `parse_obj` method is deprecated")
def test_a_personal_access_token_works_as_well(label_studio, letters, send_now, project_id):
    token = _personal_token(label_studio)
    letters.choose(b"x1")
    assert send_now(LabelStudioBackend.connect(label_studio.url + "/", token)).num_sent == 1


def _personal_token(server):
    """What an annotator copies from the account page."""
    with httpx.Client(base_url=server.url, timeout=60) as browser:
        browser.get("/user/login/")
        form = {"email": server.email, "password": server.password}
        token = {"csrfmiddlewaretoken": browser.cookies["csrftoken"]}
        browser.post("/user/login/", data=form | token, headers={"Referer": server.url})
        headers = {"X-CSRFToken": browser.cookies["csrftoken"], "Referer": server.url}
        return browser.post("/api/token/", headers=headers).raise_for_status().json()["token"]


def test_a_server_that_is_down_is_said_to_be(free_url):
    with pytest.raises(UnavailableError, match="flywheel up"):
        LabelStudioBackend.connect(free_url(), "0000111122223333444455556666777788889999")


def test_a_refusal_is_reported_without_the_response_s_headers(studio):
    with pytest.raises(FlywheelError) as error:
        studio.push(999_999, [])
    assert "404" in str(error.value)
    assert "cookie" not in str(error.value).lower()
