"""What the world does wrong, and what a night makes of it: reported, recorded, nothing lost.

Each input has its law somewhere; those that need no night are elsewhere (below tests/):

corrupt image           here; unit/serve/test_predict.py::test_a_payload_that_the_task_cannot_read_*,
                        unit/tasks/test_digits_payloads.py
oversized image         here; unit/serve/test_predict.py::test_a_body_that_is_too_large_*
wrong content type      here; unit/serve/test_predict.py::test_what_cannot_be_a_sample_*
unknown request id      here; unit/serve/test_feedback.py::test_feedback_on_an_unknown_request_is_404
NaN confidence          unit/serve/test_predict.py::test_a_confidence_that_is_no_number_*
empty traffic window    here
no labels back          here
Label Studio down       here; integration/annotate/test_sending.py::test_a_server_that_is_down_*
token refused           here; integration/annotate/test_sending.py::test_a_wrong_token_is_refused_*
Prefect's server down   integration/test_cli.py::test_without_prefect_*
path not writable       here; unit/cli/test_app.py::test_what_cannot_be_*
model server down       here
annotation deleted      here; integration/annotate/test_returning.py::test_a_deleted_annotation_*
annotation skipped      here; integration/annotate/test_returning.py::test_a_skip_comes_back_once
outside the class list  here; integration/annotate/test_returning.py::test_an_annotation_outside_*
"""

from __future__ import annotations

import httpx
import pytest

from flows.helpers.steps import TASKS

pytestmark = pytest.mark.integration

PNG = {"Content-Type": "image/png"}


JSON = {"Content-Type": "application/json"}
OUTCOME = b'{"request_id": "nobody", "kind": "outcome", "value": true}'
BAD = {
    "corrupt image": (
        "/predict",
        b"\x89PNG\r\n\x1a\n and then nothing",
        PNG,
        422,
        "send a PNG",
    ),
    "oversized image": ("/predict", b"\x89PNG" + b"0" * 10_000_000, PNG, 413, "10000000"),
    "no content type": ("/predict", b"\x89PNG", {}, 415, "image/png"),
    "another content type": ("/predict", b"some words", {"Content-Type": "text/plain"}, 422, "PNG"),
    "feedback as a form": ("/feedback", OUTCOME, {}, 415, "application/json"),
    "unknown request id": ("/feedback", OUTCOME, JSON, 404, "nobody"),
    "feedback cut short": ("/feedback", OUTCOME[:20], JSON, 422, ""),
}
"""name -> path, body, headers, and the status and words that come back"""


@pytest.mark.parametrize(("path", "body", "headers", "status", "said"), BAD.values(), ids=BAD)
def test_what_production_sends_wrong_is_reported_and_not_stored(
    begun, path, body, headers, status, said
):
    stored = "select (select count(*) from predictions), (select count(*) from feedback)"
    before = begun.rows(stored)
    answer = httpx.post(begun.project.server_url + path, content=body, headers=headers)
    assert answer.status_code == status
    assert said in answer.json()["detail"]
    assert begun.rows(stored) == before


def test_a_night_without_traffic_completes_and_routes_nothing(begun):
    steps = begun.steps(1)
    drift = steps["collect"].pop("drift")
    assert steps["collect"] == {"num_predictions": 0, "num_feedback": 0, "num_failures": 0}
    assert (drift["num_new"], drift["is_alarm"]) == (0, False)
    assert (steps["route"]["population"], steps["route"]["num_sent"]) == (0, 0)
    assert steps["decide"]["verdict"] == "PROMOTE"


def test_a_night_to_which_no_labels_come_back_completes_and_sends_nothing_twice(small, annotators):
    small.night()
    posted = annotators.tasks(small.project.name)
    state = small.night()
    assert (state.name, state.is_completed()) == ("NO-VERDICT", True)
    assert small.steps()["ingest"]["num_labels"] == 0
    again = annotators.tasks(small.project.name)
    assert len({task["data"]["sample_id"] for task in again}) == len(again) >= len(posted)


@pytest.fixture(params=["down", "token refused"])
def without_label_studio(request, small, servers, monkeypatch):
    """A project whose Label Studio is not to be had; call it to get it back."""
    name = small.project.name
    if request.param == "down":
        small.configure(name, label_studio=servers.free_url())
    else:
        monkeypatch.setenv("LABEL_STUDIO_API_KEY", "0" * 40)

    def restore():
        small.configure(name)
        monkeypatch.setenv("LABEL_STUDIO_API_KEY", servers.token)

    return restore


def test_without_label_studio_the_batch_waits_and_the_next_night_sends_it(
    small, without_label_studio, annotators
):
    state = small.night()
    steps = small.steps()
    assert state.is_completed()
    assert "waits in the ledger" in steps["route"]["note"]
    assert (steps["route"]["num_sent"], steps["route"]["num_waiting"]) == (0, 20)
    assert {subject for subject, _ in small.skips()} >= {"route", "ingest"}
    without_label_studio()
    small.night()
    chosen = {row[0] for row in small.rows("select sample_id from choices")}
    posted = [task["data"]["sample_id"] for task in annotators.tasks(small.project.name)]
    assert len(posted) == small.steps()["route"]["num_sent"] >= 20
    assert set(posted) == chosen


def test_without_a_model_server_the_night_completes_with_a_note(small):
    assert small.night().is_completed()
    assert "does not answer" in small.steps()["deploy"]["note"]
    assert "deploy" in {subject for subject, _ in small.skips()}


@pytest.fixture
def impatient(monkeypatch):
    """The release step tries again without a pause."""
    monkeypatch.setattr(TASKS["release"], "retry_delay_seconds", [0, 0, 0])


def test_without_a_model_server_a_promoted_candidate_waits_for_it(small, annotators, impatient):
    small.night()
    annotators.annotate_all(small.project.name)
    state = small.night()
    assert (state.name, "does not answer" in state.message) == ("Failed", True)
    assert small.rows("select max(number) from releases") == [(1,)]
    small.serve()
    assert small.night().name == "PROMOTE"
    assert small.rows("select number, finished_at is not null from nights")[-1] == (3, 1)
    [(released,)] = small.rows("select checkpoint_digest from releases where number = 2")
    assert small.serving() == released == small.steps()["retrain"]["candidate_digest"]


def test_a_report_that_cannot_be_written_fails_the_night_which_then_goes_on(small):
    reports = small.directory / ".flywheel" / "reports"
    reports.rename(reports.with_name("elsewhere"))
    reports.write_text("in the way")
    assert small.night().is_failed()
    reports.unlink()
    assert small.night().is_completed()
    assert small.rows("select number, finished_at is not null from nights")[-1] == (2, 1)


def test_blobs_that_cannot_be_written_begin_no_night_and_lose_nothing(small):
    nights, name = small.rows("select number from nights"), small.project.name
    with (small.directory / "flywheel.toml").open("a") as settings:
        settings.write('[storage]\nblobs = "flywheel.toml/blobs"\n')
    state = small.night()
    assert (state.name, "storage.blobs" in state.message) == ("Failed", True)
    assert small.rows("select number from nights") == nights
    small.configure(name)
    assert small.night().is_completed()


@pytest.fixture(scope="module")
def annotated(new_copy, annotators):
    """Night 3 has read three labels; then people delete one, skip one and leave the list."""
    small = new_copy()
    small.night()
    targeted = set(small.rows("select sample_id from choices where share = 'targeted'"))
    posted = annotators.tasks(small.project.name)
    hard = [task for task in posted if (task["data"]["sample_id"],) in targeted]
    ids = [annotators.annotate(task, "lower") for task in hard[:3]]
    small.night()
    annotators.delete(f"/api/annotations/{ids[0]}/")
    annotators.annotate(hard[3], "lower", was_cancelled=True, result=[])
    annotators.annotate(hard[4], "neither")
    assert small.night().is_completed()
    return small


@pytest.mark.parametrize("what", ["num_deleted", "num_skipped", "num_refused"])
def test_what_annotators_take_back_skip_or_make_up_is_counted(annotated, what):
    assert (annotated.steps(3)["ingest"][what], annotated.steps(4)["ingest"][what]) == (0, 1)


def test_a_deleted_annotation_takes_its_row_and_no_other_from_the_data_set(annotated):
    before, after = annotated.steps(3)["ingest"], annotated.steps(4)["ingest"]
    assert before["num_train"] - after["num_train"] == 1
    assert annotated.rows("select count(*) from annotations") == [(5,)]


def test_an_answer_outside_the_class_list_is_recorded_with_its_reason(annotated):
    [(_, reason)] = [skip for skip in annotated.skips(4) if skip[0].startswith("annot")]
    assert "'neither'" in reason
