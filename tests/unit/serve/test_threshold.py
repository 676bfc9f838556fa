"""Below its threshold the system defers: the caller's fallback decides instead of the model."""

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime

import pytest

from flywheel.errors import RefusedError
from flywheel.ledger.releases import add_release
from flywheel.serve import ModelServer, command_token
from flywheel.serve.host import Host


def defers(predict, client, confidence):
    return predict(client, 1.0, confidence).json()["defer"]


def test_the_released_threshold_is_read_at_the_start(release, serve, predict):
    release(0.0, threshold=0.75)
    client = serve()
    assert client.get("/model").json()["threshold"] == 0.75
    assert [defers(predict, client, c) for c in (0.5, 0.75, 1.0)] == [True, False, False]


def test_without_a_threshold_nothing_is_deferred(server, predict):
    assert not defers(predict, server, 0.0)


def test_a_confidence_that_is_no_number_is_deferred(release, serve, predict):
    release(0.0, threshold=0.25)
    assert defers(predict, serve(), float("nan"))


def test_a_deferred_answer_is_given_and_stored_all_the_same(release, serve, predict):
    release(2.0, threshold=0.75)
    answer = predict(serve(), 1.0, 0.5).json()
    assert (answer["answer"], answer["confidence"], answer["defer"]) == (3.0, 0.5, True)


def test_digest_and_threshold_are_answered_together(server, weights, project):
    model_server = ModelServer(str(server.base_url), command_token(project))
    digest = weights(5.0)
    assert model_server.activate(digest, 0.5) == digest
    assert model_server.served() == (digest, 0.5, "")
    assert model_server.activate(digest) == digest
    assert model_server.served() == (digest, None, "")


def test_no_model_has_no_threshold(serve):
    assert ModelServer(str(serve().base_url)).served() is None


def test_a_new_threshold_loads_no_weights(server, predict):
    before = server.get("/model").json()
    server.post("/model", json={"digest": before["digest"], "threshold": 0.95})
    after = server.get("/model").json()
    assert after["loaded_at"] == before["loaded_at"]
    assert defers(predict, server, 0.9)


def test_what_serves_is_the_release_only_with_its_threshold(release, serve):
    digest = release(0.0, threshold=0.5)
    client = serve()
    assert client.get("/model").json()["release"] == 1
    client.post("/model", json={"digest": digest, "threshold": 0.6})
    assert client.get("/model").json()["release"] is None


@pytest.mark.parametrize("threshold", [-0.1, 1.5, "high"])
def test_a_threshold_that_is_no_confidence_is_422_and_changes_nothing(server, threshold):
    before = server.get("/model").json()
    body = {"digest": before["digest"], "threshold": threshold}
    refused = server.post("/model", json=body)
    assert (refused.status_code, server.get("/model").json()) == (422, before)
    assert "threshold" in refused.json()["detail"]


def test_a_server_that_keeps_another_threshold_is_refused(server, weights, project, monkeypatch):
    activate = Host.activate
    monkeypatch.setattr(
        Host, "activate", lambda self, digest, _, now: activate(self, digest, None, now)
    )
    with pytest.raises(RefusedError, match=r"defers below None, although 0\.5 was sent"):
        ModelServer(str(server.base_url), command_token(project)).activate(weights(1.0), 0.5)


def test_no_answer_sees_a_model_with_the_threshold_of_another(server, weights, predict):
    """Confidence is 0.5: one model always defers, the other never."""
    always, never = weights(1000.0), weights(2000.0)
    server.post("/model", json={"digest": always, "threshold": 0.75})
    with ThreadPoolExecutor(8) as pool:
        answers = [pool.submit(predict, server, float(100 + n), 0.5) for n in range(150)]
        for n in range(20):
            digest, threshold = ((never, 0.25), (always, 0.75))[n % 2]
            server.post("/model", json={"digest": digest, "threshold": threshold})
    said = [answer.result().json() for answer in answers]
    assert all(one["defer"] == (one["model_digest"] == always) for one in said)


def test_the_release_that_the_ledger_stores_is_what_the_next_server_reads(release, ledger, serve):
    digest = release(0.0)
    with ledger.begin() as connection:
        add_release(connection, digest, "stricter", datetime(2026, 1, 2, tzinfo=UTC), 0.9)
    assert ModelServer(str(serve().base_url)).served() == (digest, 0.9, "")
