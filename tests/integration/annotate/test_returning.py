"""Annotations of the real Label Studio come back right, exactly once."""

from datetime import UTC, datetime
from functools import partial

import pytest

from flywheel.annotate import PullResult, make_labels, reconcile
from flywheel.annotate.reconcile import ReconcileResult
from flywheel.ledger.annotations import annotations_of

NOW = datetime(2026, 3, 2, tzinfo=UTC)
AUTHOR = {"email": "author@example.com", "username": "author"}

pytestmark = pytest.mark.integration


@pytest.fixture
def sample_id(letters, send_now):
    (sample_id,) = letters.choose(b"x1")
    send_now()
    return sample_id


@pytest.fixture
def external_id(letters, sample_id):
    return letters.tasks()[sample_id][1]


@pytest.fixture
def result(letters):
    return partial(letters.task.labeling.result, _sample=None)


@pytest.fixture
def labels_now(letters, pull_now):
    """Pull and label; every answer that the sample's label had."""

    def run(sample_id):
        pull_now()
        make_labels(letters.ledger, letters.task, letters.project, NOW, 1)
        return letters.labels(sample_id)

    return run


def test_an_annotation_comes_back_once(external_id, annotators, result, pull_now):
    annotators.annotate(external_id, result("b"))
    assert [pull_now(), pull_now()] == [PullResult(num_annotations=1), PullResult()]


def test_a_changed_annotation_changes_the_label(
    sample_id, external_id, annotators, result, labels_now
):
    annotation_id = annotators.annotate(external_id, result("b"))
    assert labels_now(sample_id) == ["b"]
    annotators.change(annotation_id, result("c"))
    assert labels_now(sample_id) == ["b", "c"]


def test_who_changes_the_annotation_of_another_answers_for_it(
    letters, label_studio, sample_id, external_id, annotators, result, labels_now
):
    author = annotators.http.post("/api/users/", json=AUTHOR).json()["id"]
    annotation_id = annotators.annotate(external_id, result("b"), completed_by=author)
    labels_now(sample_id)
    assert _annotators(letters, sample_id) == [AUTHOR["email"]]  # imported for its author
    annotators.change(annotation_id, result("c"))
    assert labels_now(sample_id) == ["b", "c"]
    assert _annotators(letters, sample_id) == [label_studio.email]


def _annotators(letters, sample_id):
    with letters.ledger.read() as connection:
        return [one.annotator for one in annotations_of(connection, [sample_id])]


def test_a_deleted_annotation_withdraws_the_label(
    sample_id, external_id, annotators, result, labels_now, pull_now
):
    annotation_id = annotators.annotate(external_id, result("b"))
    labels_now(sample_id)
    annotators.delete(f"/api/annotations/{annotation_id}/")
    assert labels_now(sample_id) == ["b", None]
    assert pull_now() == PullResult()


def test_a_skip_comes_back_once(letters, sample_id, external_id, annotators, pull_now):
    annotators.annotate(external_id, [], was_cancelled=True)
    assert [pull_now(), pull_now()] == [PullResult(num_skipped=1), PullResult()]
    assert letters.tasks()[sample_id][0] == "sent"


def test_an_annotation_outside_the_list_is_set_aside(
    letters, sample_id, external_id, annotators, result, pull_now
):
    annotators.annotate(external_id, result("unusable"))
    assert [pull_now(), pull_now()] == [PullResult(num_refused=1), PullResult()]
    assert (letters.num_skips(), letters.labels(sample_id)) == (1, [])


def test_a_finished_labeling_task_is_done(
    letters, sample_id, external_id, annotators, result, pull_now
):
    annotators.annotate(external_id, result("b"))
    pull_now()
    assert letters.tasks()[sample_id][0] == "done"


def test_a_deleted_labeling_task_is_found_by_a_reconciliation_and_not_sent_again(
    letters, sample_id, external_id, annotators, studio, send_now
):
    annotators.delete(f"/api/tasks/{external_id}/")
    reconciled = [
        reconcile(letters.ledger, letters.blobs, studio, letters.task, NOW) for _ in range(2)
    ]
    assert reconciled == [ReconcileResult(num_missing=1), ReconcileResult()]
    assert letters.tasks()[sample_id][0] == "refused"
    assert send_now().num_sent == 0


def test_a_deleted_project_loses_no_label(
    sample_id, external_id, annotators, result, labels_now, project_id
):
    annotators.annotate(external_id, result("b"))
    assert labels_now(sample_id) == ["b"]
    annotators.delete(f"/api/projects/{project_id}/")
    assert labels_now(sample_id) == ["b"]


def test_work_on_a_labeling_task_that_we_did_not_send_is_reported(
    sample_id, annotators, result, pull_now, project_id
):
    body = [{"data": {"image": "/static/images/logo.png"}}]
    annotators.http.post(f"/api/projects/{project_id}/import", json=body).raise_for_status()
    by_hand = annotators.tasks(project_id)[-1]["id"]
    annotators.annotate(by_hand, result("b"))
    assert pull_now() == PullResult(num_unknown=1)
