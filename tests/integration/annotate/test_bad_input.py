"""Bad input against a real Label Studio: one clear line, quarantine where it belongs, the rest goes on.

A line is clear when it names the value and the next step.
"""

from __future__ import annotations

import dataclasses
import sqlite3
from collections.abc import Callable
from datetime import datetime, timedelta
from functools import partial

import pytest
from sqlalchemy import select

from flywheel.annotate import LabelStudioBackend, PullResult, reconcile
from flywheel.annotate.reconcile import ReconcileResult
from flywheel.errors import RefusedError
from flywheel.ledger.tables import annotations, skips
from flywheel.records import Media

pytestmark = pytest.mark.integration


@pytest.fixture
def skip_lines(letters) -> Callable[[], list[str]]:
    """What was set aside, a line each: subject and reason."""

    def read() -> list[str]:
        with letters.ledger.read() as connection:
            rows = connection.execute(select(skips).order_by(skips.c.seq))
            lines = [f"{row.subject}: {row.reason}" for row in rows]
        assert not [line for line in lines if "\n" in line]
        return lines

    return read


@pytest.fixture
def stored(letters):
    """Every annotation in the ledger: its answer, or why it is none."""

    def read() -> list[tuple[object, str | None]]:
        query = select(annotations).where(annotations.c.deleted_at.is_(None))
        with letters.ledger.read() as connection:
            rows = connection.execute(query.order_by(annotations.c.id))
            return [(row.answer, row.refused) for row in rows]

    return read


@pytest.fixture
def reconcile_now(letters, studio) -> Callable[[], ReconcileResult]:
    now = datetime.fromisoformat("2026-03-02T00:00:00+00:00")
    return partial(reconcile, letters.ledger, letters.blobs, studio, letters.task, now)


@pytest.fixture
def result(letters):
    return partial(letters.task.labeling.result, _sample=None)


@pytest.fixture
def change_task(letters) -> Callable[..., None]:
    """The user writes another labeling part into the task."""

    def change(**parts: object) -> None:
        labeling = dataclasses.replace(letters.task.labeling, **parts)
        letters.task = dataclasses.replace(letters.task, labeling=labeling)

    return change


def test_a_token_that_is_wrong_or_was_revoked_is_named_and_what_is_not_sent_waits(
    label_studio, letters, studio, send_now
):
    letters.choose(b"x1")
    wrong = "0000111122223333444455556666777788889999"
    with pytest.raises(RefusedError, match=r"LABEL_STUDIO_API_KEY.*copy a valid one") as error:
        LabelStudioBackend.connect(label_studio.url, wrong)
    assert wrong[:12] not in str(error.value)
    assert f"{label_studio.url}/user/account" in str(error.value)
    revoked = LabelStudioBackend.connect(label_studio.url, label_studio.token)
    revoked._client._wrapper._tokens_client._api_key = wrong
    with pytest.raises(RefusedError, match=r"LABEL_STUDIO_API_KEY.*copy a valid one"):
        send_now(revoked)
    assert {state for state, _, _ in letters.tasks().values()} == {"waiting"}
    assert send_now().num_sent == 1


def test_a_project_deleted_under_us_is_reported_and_what_was_open_goes_to_a_new_one(
    letters, send_now, pull_now, annotators, result, skip_lines, stored
):
    done, *still_open = letters.choose(b"x1", b"x2", b"x3")
    first = int(send_now().project_url.split("/")[-2])
    annotators.annotate(letters.tasks()[done][1], result("b"))
    pull_now()
    annotators.delete(f"/api/projects/{first}/")
    sent = send_now()
    second = int(sent.project_url.split("/")[-2])
    assert (sent.num_sent, second != first) == (2, True)
    there = {task["data"]["sample_id"] for task in annotators.tasks(second)}
    assert (there, stored()) == (set(still_open), [("b", None)])
    (line,) = skip_lines()
    assert f"project {first} in Label Studio: " in line
    assert "its 2 unfinished labeling tasks are sent again to a new project" in line


class DeletesProject(LabelStudioBackend):
    """The project is deleted while we upload pictures to it."""

    def publish(self, project_id, files):
        addresses = super().publish(project_id, files)
        self._client.call("DELETE", f"api/projects/{project_id}/")
        return addresses


def test_a_project_deleted_while_we_send_stops_that_send_and_not_the_next(
    label_studio, letters, send_now, annotators
):
    letters.choose(b"x1", b"x2")
    with pytest.raises(RefusedError, match=r"answers 404: .*check labeling\.url"):
        send_now(DeletesProject.connect(label_studio.url, label_studio.token))
    sent = send_now()
    assert sent.num_sent == 2
    assert len(annotators.tasks(int(sent.project_url.split("/")[-2]))) == 2


def test_answers_to_a_config_that_was_edited_by_hand_are_set_aside_and_the_config_comes_back(
    letters, send_now, pull_now, annotators, result, skip_lines, stored
):
    letters.choose(b"x1", b"x2", b"x3")
    project_id = int(send_now().project_url.split("/")[-2])
    path, config = f"/api/projects/{project_id}/", letters.task.labeling.config
    edited = config.replace("<Choices", '<TextArea name="word" toName="image"/><Choices')
    annotators._json("PATCH", path, json={"label_config": edited.replace('"c"', '"z"')})
    first, second, third = (task["id"] for task in annotators.tasks(project_id))
    word = {"type": "textarea", "from_name": "word", "to_name": "image", "value": {"text": ["b"]}}
    annotators.annotate(first, result("z"))
    annotators.annotate(second, [{"id": "r1", **word}])
    annotators.annotate(third, result("b"))
    assert pull_now() == PullResult(num_annotations=1, num_refused=2)
    assert sorted((answer for answer, _ in stored()), key=str) == [None, None, "b"]
    strange, unread = skip_lines()
    assert "['z'] is no letter; choose one of ('a', 'b', 'c')" in strange
    assert "annotation " in unread
    assert "labeling.answer" in unread
    assert "KeyError: 'choices'" in unread
    letters.choose(b"x4")
    send_now()
    assert annotators.http.get(path).json()["label_config"] == config


def test_after_a_class_was_renamed_old_answers_are_not_shown_and_the_samples_are_sent(
    letters, send_now, pull_now, annotators, change_task, result, skip_lines
):
    (old,) = letters.choose(b"x1", answer="c")
    change_task(config=letters.task.labeling.config.replace('"c"', '"z"'))
    (new,) = letters.choose(b"x2", answer="a")
    assert send_now().num_sent == 2
    project_id = annotators.task(letters.tasks()[old][1])["project"]
    there = {task["data"]["sample_id"]: task for task in annotators.tasks(project_id)}
    shown = {key: [one["result"] for one in task["predictions"]] for key, task in there.items()}
    assert shown == {old: [[]], new: [result("a")]}
    assert ("reason" in there[old]["data"], "reason" in there[new]["data"]) == (False, True)
    assert {key: row.shown for key, row in letters.rows().items()} == {old: False, new: True}
    (line,) = skip_lines()
    assert f"pre-annotation of sample {old}" in line
    assert "'c'" in line or "['c']" in line
    assert "fix labeling.result" in line


def test_a_task_that_cannot_show_the_old_class_at_all_sets_those_samples_aside(
    letters, send_now, change_task, result, skip_lines
):
    numbers = {"a": 0, "b": 1}
    old, new = letters.choose(b"x1", answer="c") + letters.choose(b"x2", answer="a")
    change_task(result=lambda answer, _sample: numbers[answer] >= 0 and result(answer))
    assert (send_now().num_sent, letters.tasks()[new][0]) == (1, "sent")
    assert letters.tasks()[old][0] == "refused"
    (line,) = skip_lines()
    assert line.startswith(f"sample {old}: labeling.result of the task")
    assert "KeyError: 'c'" in line


def test_a_config_that_the_server_refuses_is_reported_and_what_waits_is_sent_once_it_is_repaired(
    letters, send_now, change_task
):
    config = letters.task.labeling.config
    letters.choose(b"x1")
    change_task(config='<View><Choices name="letter" toName="nothing"/></View>')
    with pytest.raises(RefusedError, match=r"answers 400: .*label_config.*the labeling config"):
        send_now()
    assert {state for state, _, _ in letters.tasks().values()} == {"waiting"}
    change_task(config=config)
    assert send_now().num_sent == 1
    letters.choose(b"x2")
    change_task(config=config.replace('toName="image"', 'toName="nothing"'))
    with pytest.raises(RefusedError, match=r'answers 400: .*toName="nothing" not found'):
        send_now()
    change_task(config=config)
    assert send_now().num_sent == 1


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        (
            {"image": Media(b"no picture", "image/png")},
            "'image' cannot be shown: the picture: cannot identify an image in 10 bytes",
        ),
        (KeyError("lens"), "labeling.data of the task"),
    ],
)
def test_a_picture_that_no_browser_can_show_is_set_aside_and_the_others_are_sent(
    letters, send_now, change_task, skip_lines, fault, words
):
    bad, good = letters.choose(b"x1", b"x2")
    whole = letters.task.labeling.data

    def data(sample):
        if sample.id != bad:
            return whole(sample)
        if isinstance(fault, Exception):
            raise fault
        return fault

    change_task(data=data)
    sent = send_now()
    assert (sent.num_sent, sent.num_refused) == (1, 1)
    assert (letters.tasks()[bad][0], letters.tasks()[good][0]) == ("refused", "sent")
    (line,) = skip_lines()
    assert line.startswith(f"sample {bad}: ")
    assert words in line
    assert send_now().num_sent == 0


def test_work_on_a_foreign_labeling_task_in_our_project_is_reported_and_left_alone(
    letters, send_now, pull_now, reconcile_now, annotators, result, skip_lines, stored
):
    (sample_id,) = letters.choose(b"x1")
    project_id = int(send_now().project_url.split("/")[-2])
    body = [{"data": {"image": "/static/images/logo.png"}}]
    annotators.http.post(f"/api/projects/{project_id}/import", json=body).raise_for_status()
    ours, theirs = (task["id"] for task in annotators.tasks(project_id))
    annotators.annotate(theirs, result("a"))
    annotators.annotate(ours, result("b"))
    assert pull_now() == PullResult(num_annotations=1, num_unknown=1)
    assert reconcile_now().num_foreign == 1
    assert stored() == [("b", None)]
    (line,) = skip_lines()
    assert f"project {project_id} in Label Studio: 1 labeling tasks were made by hand" in line
    assert f"number {theirs}" in line
    assert "they are left alone" in line
    assert annotators.task(theirs)["data"] == body[0]["data"]
    assert letters.tasks()[sample_id][0] == "done"


@pytest.fixture
def set_back(label_studio) -> Callable[[int], None]:
    """What happened to a labeling task happened by a clock that was six hours behind."""

    def change(external_id: int) -> None:
        with sqlite3.connect(label_studio.data / "label_studio.sqlite3", timeout=30) as database:
            for table, column in (("task", "id"), ("task_completion", "task_id")):
                select_at = f"select id, updated_at from {table} where {column} = ?"
                for number, at in database.execute(select_at, [external_id]).fetchall():
                    earlier = datetime.fromisoformat(at) - timedelta(hours=6)
                    update = f"update {table} set updated_at = ? where id = ?"
                    database.execute(update, [str(earlier), number])
        database.close()

    return change


def test_what_happens_by_a_clock_that_was_set_back_is_found_by_a_reconciliation(
    letters, send_now, pull_now, reconcile_now, annotators, result, stored, set_back
):
    letters.choose(b"x1", b"x2", b"x3")
    project_id = int(send_now().project_url.split("/")[-2])
    changed, deleted, new = (task["id"] for task in annotators.tasks(project_id))
    first, second = (
        annotators.annotate(changed, result("a")),
        annotators.annotate(deleted, result("b")),
    )
    pull_now()
    annotators.change(first, result("c"))
    annotators.delete(f"/api/annotations/{second}/")
    annotators.annotate(new, result("b"))
    for external_id in (changed, deleted, new):
        set_back(external_id)
    assert pull_now() == PullResult()
    assert reconcile_now().read == PullResult(num_annotations=2, num_deleted=1)
    assert stored() == [("c", None), ("b", None)]
    assert (pull_now(), reconcile_now()) == (PullResult(), ReconcileResult())


def test_a_clock_that_is_a_day_ahead_and_set_right_again_hides_nothing_from_a_reconciliation(
    letters, send_now, pull_now, reconcile_now, annotators, result, stored, label_studio
):
    letters.choose(b"x1", b"x2")
    project_id = int(send_now().project_url.split("/")[-2])
    early, late = (task["id"] for task in annotators.tasks(project_id))
    given = annotators.annotate(early, result("a"))
    with sqlite3.connect(label_studio.data / "label_studio.sqlite3", timeout=30) as database:
        ahead = str(datetime.now().replace(year=datetime.now().year + 1))  # noqa: DTZ005
        database.execute("update task set updated_at = ? where id = ?", [ahead, early])
        database.execute("update task_completion set updated_at = ? where id = ?", [ahead, given])
    database.close()
    assert pull_now() == PullResult(num_annotations=1)
    annotators.change(given, result("b"))
    annotators.annotate(late, result("c"))
    reconcile_now()
    assert stored() == [("b", None), ("c", None)]
