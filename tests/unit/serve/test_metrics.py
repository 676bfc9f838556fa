"""What Prometheus reads at /metrics, and what the example alerts name."""

import re
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from flywheel.errors import UnavailableError
from flywheel.serve.log import PredictionLog

ALERTS = Path(__file__).parents[3] / "deployments" / "prometheus-alerts.yaml"


def scrape(client):
    text = client.get("/metrics").raise_for_status().text
    return {
        (sample.name, *sample.labels.values()): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def test_predictions_and_feedback_are_counted(server, predict):
    first = predict(server, 1.0, 0.9).json()
    predict(server, 2.0, 0.3)
    body = {"request_id": first["request_id"], "kind": "outcome", "value": True}
    assert server.post("/feedback", json=body).status_code == 200
    found = scrape(server)
    assert found["flywheel_http_requests_total", "/predict", "200"] == 2
    assert found["flywheel_http_request_duration_seconds_count", "/predict"] == 2
    assert found[("flywheel_predictions_stored_total",)] == 2
    assert found[("flywheel_batch_size_sum",)] == 2
    assert found["flywheel_prediction_confidence_bucket", "0.5"] == 1
    assert found["flywheel_feedback_total", "outcome"] == 1


def test_deferred_answers_are_counted(release, serve, predict):
    release(0.0, threshold=0.5)
    client = serve()
    predict(client, 1.0, 0.3)
    assert scrape(client)[("flywheel_predictions_deferred_total",)] == 1


def test_predictions_that_could_not_be_stored_are_counted(server, predict, monkeypatch):
    def full(_self, _batch):
        raise UnavailableError("the disk is full; free it")

    monkeypatch.setattr(PredictionLog, "write", full)
    assert predict(server, 1.0).status_code == 503
    found = scrape(server)
    assert found[("flywheel_predictions_failed_total",)] == 1
    assert found["flywheel_http_requests_total", "/predict", "503"] == 1


def test_the_model_and_the_state_of_the_loop_are_shown(server):
    found = scrape(server)
    digest = server.get("/model").json()["digest"]
    assert found["flywheel_model_info", digest, "1"] == 1
    assert found[("flywheel_release_age_seconds",)] > 0
    assert found[("flywheel_nights_finished_total",)] == 0
    assert found["flywheel_failures", "queued"] == 0
    assert found["flywheel_labeling_tasks", "waiting"] == 0
    assert found[("flywheel_ledger_up",)] == 1


def test_new_paths_make_no_new_series(server):
    server.get("/one")
    server.get("/two")
    assert scrape(server)["flywheel_http_requests_total", "other", "404"] == 2


def test_a_ledger_that_cannot_be_read_leaves_the_traffic_shown(server, servers_ledger, monkeypatch):
    monkeypatch.setattr(servers_ledger, "read", _broken)
    found = scrape(server)
    assert found[("flywheel_ledger_up",)] == 0
    assert ("flywheel_predictions_stored_total",) in found


def test_every_metric_of_the_example_alerts_exists(server):
    scrape(server)  # a request too
    known = {name for name, *_ in scrape(server)}
    late = {"flywheel_last_night_age_seconds", "flywheel_last_night_verdict"}  # after a night
    named = set(re.findall(r"\bflywheel_\w+", ALERTS.read_text()))
    assert named
    assert named <= known | late


@pytest.fixture
def guarded(release, serve, monkeypatch):
    monkeypatch.setenv("FLYWHEEL_SERVER_TOKEN", "open sesame")
    release(0.0)
    return serve()


def test_the_metrics_need_the_token(guarded):
    assert guarded.get("/metrics").status_code == 401
    headers = {"Authorization": "Bearer open sesame"}
    found = guarded.get("/metrics", headers=headers)
    assert found.status_code == 200
    assert "sesame" not in found.text


def _broken():
    raise OSError("the disk is gone")
