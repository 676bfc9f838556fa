"""Predictions and feedback of other servers over HTTP: each row once, however often it is sent."""

import base64
import gzip
import hashlib
import json
import struct
import time

import pytest
from sqlalchemy import func, select

from flywheel.ledger.predictions import get_prediction
from flywheel.ledger.tables import feedback, predictions
from flywheel.serve import Listeners

LINES = {"Content-Type": "application/jsonl"}


def row(pair, number, **changes):
    payload = base64.b64encode(pair(number)).decode()
    given = {"id": f"r{number}", "base64": payload, "media_type": "application/x-pair"}
    return {**given, "answer": number, "confidence": 0.9, "model": "v3", **changes}


@pytest.fixture
def rows(pairs):
    return [row(pairs, number) for number in range(3)]


@pytest.fixture
def pairs():
    return lambda value: struct.pack("<2f", value, 0.9)


def lines(rows):
    return "".join(json.dumps(one) + "\n" for one in rows).encode()


def count(ledger, table):
    with ledger.read() as connection:
        return connection.execute(select(func.count()).select_from(table)).scalar_one()


def test_rows_are_stored_once_however_often_they_are_sent(serve, rows, ledger):
    client = serve()
    first = client.post("/predictions", content=lines(rows), headers=LINES)
    again = client.post("/predictions", content=lines(rows), headers=LINES)
    assert (first.status_code, first.json()["new"], again.json()["known"]) == (200, 3, 3)
    assert count(ledger, predictions) == 3
    with ledger.read() as connection:
        assert get_prediction(connection, "r2").answer == 2


def test_a_packed_body_is_read(serve, rows):
    packed = gzip.compress(lines(rows))
    headers = LINES | {"Content-Encoding": "gzip"}
    assert serve().post("/predictions", content=packed, headers=headers).json()["new"] == 3


def test_feedback_comes_in_bulk_and_waits_for_its_prediction(serve, rows, ledger):
    client = serve()
    said = lines([{"id": one["id"], "kind": "outcome", "value": False} for one in rows])
    assert client.post("/feedback", content=said, headers=LINES).json()["early"] == 3
    client.post("/predictions", content=lines(rows), headers=LINES)
    assert count(ledger, feedback) == 3
    assert client.post("/feedback", content=said, headers=LINES).json()["known"] == 3


def test_one_feedback_is_sent_as_ever(serve, rows):
    client = serve()
    client.post("/predictions", content=lines(rows), headers=LINES)
    body = {"request_id": "r1", "kind": "rating", "value": 0.5}
    assert client.post("/feedback", json=body).status_code == 200


def test_rows_that_cannot_be_used_are_counted_with_their_reasons(serve, rows, pairs):
    rows[1]["confidence"] = 7
    body = lines(rows) + b"no json\n" + lines([row(pairs, 9, base64="AAAA")])
    said = serve().post("/predictions", content=body, headers=LINES).json()
    assert (said["new"], said["num_rejected"]) == (2, 3)
    assert [one["row"] for one in said["rejected"]] == [2, 4, 5]


def test_a_body_of_which_nothing_can_be_used_is_refused(serve):
    answer = serve().post("/predictions", content=b'{"id": 1}\n', headers=LINES)
    assert (answer.status_code, "row 1: answer is missing" in answer.json()["detail"]) == (
        422,
        True,
    )


def test_payloads_are_read_below_the_allowed_roots_only(serve, project, pairs, tmp_path):
    inside, outside = tmp_path / "in", tmp_path / "secret"
    for folder in (inside, outside):
        folder.mkdir()
        (folder / "a").write_bytes(pairs(1))
    given = [
        row(pairs, n, base64=None, path=str(folder / "a"))
        for n, folder in enumerate((inside, outside))
    ]
    refused = serve().post("/predictions", content=lines(given), headers=LINES)
    assert refused.json()["num_rejected"] == 2
    serving = project.serve.model_copy(update={"payload_roots": (str(inside),)})
    client = serve(project.model_copy(update={"serve": serving}))
    said = client.post("/predictions", content=lines(given), headers=LINES).json()
    assert (said["new"], said["rejected"][0]["row"]) == (1, 2)


def test_another_type_and_a_body_that_is_too_large_are_refused(serve):
    client = serve()
    assert client.post("/predictions", json=[]).status_code == 415
    zeros = gzip.compress(bytes(17_000_000))
    headers = LINES | {"Content-Encoding": "gzip"}
    assert client.post("/predictions", content=zeros, headers=headers).status_code == 413


def test_unsure_ones_count_as_hard_samples(serve, pairs):
    heard = []
    client = serve(listeners=Listeners(on_hard_samples=heard.append))
    given = [row(pairs, number, confidence=0.1) for number in range(4)]
    client.post("/predictions", content=lines(given), headers=LINES)
    for _ in range(200):
        if heard:
            break
        time.sleep(0.01)
    assert heard == [4]


def test_a_server_that_others_reach_wants_its_token(serve, project, monkeypatch, rows):
    monkeypatch.setenv("FLYWHEEL_SERVER_TOKEN", "secret")
    client = serve()
    assert client.post("/predictions", content=lines(rows), headers=LINES).status_code == 401
    headers = LINES | {"Authorization": "Bearer secret"}
    assert client.post("/predictions", content=lines(rows), headers=headers).status_code == 200


def test_a_release_can_be_pulled(serve, release):
    client = serve()
    assert client.get("/release").status_code == 404
    digest = release(1.0)
    said = client.get("/release").json()
    artifact = client.get("/release/artifact")
    assert said["digest"] == digest == hashlib.sha256(artifact.content).hexdigest()
    assert [file["name"] for file in said["files"]] == ["network.safetensors"]
    assert artifact.headers["ETag"] == f'"{digest}"'


@pytest.mark.parametrize("path", ["/predictions", "/feedback"])
def test_a_body_of_millions_of_lines_is_refused_before_one_is_read(serve, path):
    """8 MB of lines of one letter took 41 s and half a gigabyte."""
    refused = serve().post(path, content=b"x\n" * 4_000_000, headers=LINES, timeout=10)
    assert (refused.status_code, "100,000 lines" in refused.json()["detail"]) == (413, True)


def test_bulk_feedback_on_what_our_own_server_answered_waits_for_the_ledger(
    serve, release, predict, ledger
):
    """Its predictions are in a file at first: feedback that came at once was left waiting."""
    release(0.0)
    client = serve()
    key = predict(client, 1.0).json()["request_id"]
    said = lines([{"id": key, "kind": "outcome", "value": False}])
    answer = client.post("/feedback", content=said, headers=LINES).json()
    assert answer["new"] + answer["early"] == 1
    body = {"request_id": key, "kind": "rating", "value": 0.5}
    assert client.post("/feedback", json=body).status_code == 200
    assert count(ledger, feedback) == 2


def test_one_feedback_on_a_long_request_id_is_stored(serve, pairs, ledger):
    key, client = "0c9a6b4e-5f0d-4a55-9ad3-1f4f9b1c2d3e", serve()
    client.post("/predictions", content=lines([row(pairs, 1, id=key)]), headers=LINES)
    body = {"request_id": key, "kind": "outcome", "value": False}
    assert client.post("/feedback", json=body).status_code == 200
    said = lines([{"id": key, "kind": "outcome", "value": False}])
    assert client.post("/feedback", content=said, headers=LINES).json()["known"] == 1


def test_a_server_beside_the_users_own_hands_releases_over_in_the_background(
    serve, project, release, ledger, monkeypatch
):
    monkeypatch.setattr("flywheel.serve.bulk._LOOK_SECONDS", 0.02)
    digest = release(1.0)
    theirs = {"mode": "external", "handover": "out"}
    client = serve(project.model_copy(update={"serve": project.serve.model_copy(update=theirs)}))
    end = time.monotonic() + 20
    while client.get("/release").json()["artifact"] is None:
        assert time.monotonic() < end
        time.sleep(0.02)
    said = client.get("/release").json()
    assert (said["digest"], said["state"], said["fault"]) == (digest, "announced", "")
    (place,) = (project.directory / "out").iterdir()
    assert (place / "manifest.json").exists()
