"""Three nights through the real flow, with the real model server, Label Studio and Prefect."""

from __future__ import annotations

import io

import httpx
import pytest
from asking import post
from PIL import Image

from flywheel.collect import collect as collect_failures
from flywheel.errors import FlywheelError

pytestmark = pytest.mark.integration

STEPS = ["deploy", "collect", "route", "ingest", "retrain", "evaluate", "decide", "release"]


@pytest.fixture(scope="module")
def artifacts(story):
    """step or page -> its newest text on the Prefect server."""
    mine = f"{story.project.name}-"
    body = {"artifacts": {"key": {"like_": f"{mine}%"}}, "limit": 200, "sort": "CREATED_DESC"}
    url = f"{story.servers.prefect}/api/artifacts/filter"
    found = post(url, body)
    return {artifact["key"].removeprefix(mine): artifact["data"] for artifact in reversed(found)}


def test_the_first_night_releases_a_model_which_then_serves(story):
    [(digest,)] = story.rows("select checkpoint_digest from releases where number = 1")
    assert story.steps(1)["release"]["serving_digest"] == digest
    assert {row[0] for row in story.rows("select model_digest from predictions")} == {digest}


def test_the_second_night_routes_to_the_real_label_studio(story):
    routed = story.steps(2)["route"]
    assert routed["num_sent"] == len(story.posted) == 20
    assert 0 < routed["num_probability"] < 20
    assert routed["num_probability"] + routed["num_targeted"] == 20
    assert len({task["data"]["sample_id"] for task in story.posted}) == 20


def test_a_labeling_task_has_its_picture_pre_annotation_model_and_score(story, annotators):
    [(digest,)] = story.rows("select checkpoint_digest from releases where number = 1")
    posted = {(task["data"]["key"],) for task in story.posted}
    shown = posted.intersection(story.rows("select key from labeling_tasks where shown"))
    assert 0 < len(shown) < len(story.posted)
    for task in story.posted:
        [pre_annotation] = task["predictions"]
        assert 0 <= pre_annotation["score"] <= 1
        if (task["data"]["key"],) in shown:
            assert task["data"]["model"] == digest[:12]
            assert pre_annotation["result"][0]["value"]["choices"][0] in {"upper", "lower"}
        else:
            assert (pre_annotation["result"], "model" in task["data"]) == ([], False)
    shown = annotators.http.get(story.posted[0]["data"]["image"]).raise_for_status()
    assert Image.open(io.BytesIO(shown.content)).size == (8, 8)


def test_the_third_night_ingests_versions_trains_judges_and_releases(story):
    steps = story.steps(3)
    assert steps["ingest"]["num_annotations"] == steps["ingest"]["num_labels"] == 20
    assert steps["ingest"]["is_new"]
    assert steps["ingest"]["num_test"] == story.steps(2)["route"]["num_probability"]
    assert steps["decide"]["verdict"] == "PROMOTE"
    assert steps["release"]["release_number"] == 2
    assert steps["release"]["serving_digest"] == steps["retrain"]["candidate_digest"]
    assert story.serving() == steps["retrain"]["candidate_digest"]


def test_the_states_are_named_after_the_verdicts(story):
    assert [state.name for state in story.states] == ["NO-VERDICT", "PROMOTE"]
    assert all(state.is_completed() for state in story.states)


def test_every_step_has_its_page_on_the_prefect_server(artifacts):
    assert set(STEPS) <= set(artifacts)
    assert "training" in artifacts
    assert "PROMOTE" in artifacts["decide"]


def test_the_summary_and_the_link_to_the_report_are_on_the_prefect_server(artifacts, story):
    assert "PROMOTE" in artifacts["night"]
    assert f"{story.project.server_url}/pages/nights/" in artifacts["report"]


def test_the_model_server_shows_the_report_of_every_night(story):
    for number in (1, 2, 3):
        page = httpx.get(f"{story.project.server_url}/reports/night-{number:04d}.html")
        assert page.raise_for_status().text.startswith("<!doctype html>")
        assert (story.directory / f".flywheel/reports/night-{number:04d}.html").exists()


def test_a_night_right_after_a_finished_one_is_a_new_one_and_sends_nothing_twice(story, annotators):
    number, posted = (
        len(story.rows("select number from nights")),
        annotators.tasks(story.project.name),
    )
    assert story.night().name == "NO-VERDICT"
    assert len(story.rows("select number from nights")) == number + 1
    again = annotators.tasks(story.project.name)
    assert len({task["data"]["sample_id"] for task in again}) == len(again)
    gone = {task["data"]["key"] for task in posted} - {task["data"]["key"] for task in again}
    withdrawn = story.rows("select key from labeling_tasks where state = 'withdrawn'")
    assert gone <= {key for (key,) in withdrawn}  # the model that was released is sure of them


def test_a_worse_candidate_is_rejected_and_the_night_completes(small, annotators):
    small.night()
    annotators.annotate_all(small.project.name, small.as_predicted_if_drawn())
    state = small.night()
    assert (state.name, state.is_completed()) == ("REJECT", True)
    assert small.rows("select max(number) from releases") == [(1,)]


def test_a_finished_step_is_not_run_again(small, monkeypatch):
    collections = []

    def collect(*arguments, **options):
        collections.append(arguments)
        return collect_failures(*arguments, **options)

    monkeypatch.setattr("flywheel.loop.collecting.collect_failures", collect)
    with monkeypatch.context() as broken:
        broken.setattr("flywheel.loop.judge.decide_on", _break)
        assert small.night().is_failed()
    assert small.night().is_completed()
    assert (len(collections), small.rows("select max(number) from nights")) == (1, [(2,)])


def _break(*_, **__):
    raise FlywheelError("broken for this test; nothing to do")
