from concurrent.futures import ThreadPoolExecutor

import pytest
from sqlalchemy import func, select

from flywheel.ledger.engine import project_id
from flywheel.ledger.samples import move_payloads
from flywheel.ledger.tables import predictions

NO_DIGEST = "0" * 64


def test_the_current_release_is_loaded_at_the_start(release, serve):
    digest = release(2.0)
    served = serve().get("/model").json()
    assert served["digest"] == digest
    assert served["release"] == 1
    assert served["loaded_at"]


def test_a_server_without_a_release_lives_and_says_so(serve, ledger):
    client = serve()
    with ledger.read() as connection:
        own = project_id(connection)
    assert client.get("/health").json() == {"project": "pairs", "id": own, "digest": None}
    nothing = {"digest": None, "threshold": None, "release": None, "loaded_at": None, "fault": None}
    nothing["note"] = ""
    assert client.get("/model").json() == {"project": "pairs", **nothing}


def test_activating_a_digest_swaps_the_model_and_answers_what_serves(server, weights, predict):
    digest = weights(100.0)
    assert server.post("/model", json={"digest": digest}).json() == {
        "digest": digest,
        "threshold": None,
    }
    assert predict(server, 1.0).json()["answer"] == 101.0
    assert server.get("/model").json()["release"] is None  # the pointer has not moved


@pytest.mark.parametrize(
    ("digest", "status"), [(NO_DIGEST, 404), ("../../etc/passwd", 422), ("", 422)]
)
def test_what_cannot_be_loaded_leaves_the_old_model_serving(server, predict, digest, status):
    before = server.get("/health").json()
    assert server.post("/model", json={"digest": digest}).status_code == status
    assert server.get("/health").json() == before
    assert predict(server, 1.0).json()["answer"] == 1.0


def test_a_blob_that_is_no_weights_is_422_and_the_old_model_serves(server, blobs, predict):
    refused = server.post("/model", json={"digest": blobs.put(b"a payload")})
    assert refused.status_code == 422
    assert "does not fit" in refused.json()["detail"]
    assert predict(server, 1.0).json()["answer"] == 1.0


def test_a_model_is_warmed_up_on_the_last_sample_even_if_its_payload_is_gone(
    server, weights, predict, ledger, blobs, project
):
    sample_id = predict(server, 1.0).json()["sample_id"]
    move_payloads(ledger, blobs)
    (project.state / "blobs" / sample_id[:2] / sample_id).unlink()
    digest = weights(3.0)
    assert server.post("/model", json={"digest": digest}).json() == {
        "digest": digest,
        "threshold": None,
    }


def test_a_canary_answers_stored_samples_and_leaves_no_trace(server, weights, predict, ledger):
    ids = [predict(server, value).json()["sample_id"] for value in (1.0, 2.0)]
    body = {"digest": weights(50.0), "sample_ids": ids[::-1]}
    answers = server.post("/model/canary", json=body).json()
    assert [(a["sample_id"], a["answer"]) for a in answers] == [(ids[1], 52.0), (ids[0], 51.0)]
    assert all(a["latency_ms"] > 0 and a["confidence"] == pytest.approx(0.9) for a in answers)
    assert predict(server, 1.0).json()["answer"] == 1.0
    with ledger.read() as connection:
        assert connection.execute(select(func.count()).select_from(predictions)).scalar() == 3


def test_a_canary_on_an_unknown_sample_is_404(server, weights):
    body = {"digest": weights(50.0), "sample_ids": [NO_DIGEST]}
    assert server.post("/model/canary", json=body).status_code == 404


def test_no_request_fails_or_gets_another_model_s_answer_while_models_are_swapped(
    server, weights, predict
):
    biases = {weights(bias): bias for bias in (1000.0, 2000.0)}
    first, second = biases
    server.post("/model", json={"digest": first})
    with ThreadPoolExecutor(16) as pool:
        answers = [pool.submit(predict, server, float(100 + n)) for n in range(200)]
        for n in range(20):
            assert server.post("/model", json={"digest": (first, second)[n % 2]}).is_success
    for n, answer in enumerate(answers):
        said = answer.result().json()
        assert said["answer"] == 100 + n + biases[said["model_digest"]]


def test_a_failing_model_fails_only_its_own_batch_under_load(server, predict):
    values = [float(n) for n in range(100, 160)] + [13.0]
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda value: predict(server, value), values))
    assert answers[-1].status_code == 500
    assert predict(server, 7.0).json()["answer"] == 7.0
    assert all(
        answer.json()["answer"] == value
        for answer, value in zip(answers, values, strict=True)
        if answer.status_code == 200
    )


def test_a_server_that_can_load_no_release_says_why(release, project, serve, predict):
    digest = release(1.0)
    (project.state / "blobs" / digest[:2] / digest).unlink()
    client = serve()
    for said in (predict(client, 1.0).json()["detail"], client.get("/model").json()["fault"]):
        assert said.startswith("Release 1 cannot be loaded, and none serves: ")
        assert digest in said
    assert predict(client, 1.0).status_code == client.get("/readyz").status_code == 503
    assert client.get("/readyz").json()["faults"] == [
        "no release can be served, GET /model says why"
    ]


def test_the_batch_is_cut_at_max_batch_and_no_request_is_lost(release, project, serve, predict):
    release(0.0)
    settings = project.model_copy(
        update={"serve": project.serve.model_copy(update={"max_batch": 2})}
    )
    client = serve(settings)
    with ThreadPoolExecutor(16) as pool:
        answers = pool.map(lambda n: predict(client, float(n + 20)).json()["answer"], range(64))
    assert list(answers) == [float(n + 20) for n in range(64)]
