"""What the world expects of an HTTP server: probes, many at once, repeats, CORS, limits, a description."""

import base64
import json
import socket
from concurrent.futures import ThreadPoolExecutor

import pytest
from sqlalchemy import select

from flywheel.ledger.segments import take_in
from flywheel.ledger.tables import predictions, samples
from flywheel.serve.app import Connection

PAIR = {"Content-Type": "application/x-pair"}
LINES = {"Content-Type": "application/jsonl"}
SITE = "https://app.example.com"


def line(payload, **more):
    row = {"base64": base64.b64encode(payload).decode(), "media_type": "application/x-pair"}
    return json.dumps(row | more)


def test_kubernetes_names_of_probes_answer(server):
    assert server.get("/healthz").json() == server.get("/health").json()
    assert server.get("/readyz").status_code == 200


def test_many_payloads_of_json_lines_are_answered_in_order(server, pairs, ledger):
    body = "\n".join(line(pairs(n), metadata={"session": f"s{n}"}) for n in (3.0, 1.0, 2.0))
    found = server.post("/predict", content=body, headers=LINES).json()
    assert [one["answer"] for one in found] == [3.0, 1.0, 2.0]
    with ledger.read() as connection:
        groups = set(connection.execute(select(samples.c.group)).scalars())
        assert len(connection.execute(select(predictions.c.id)).all()) == 3
    assert groups == {"s1.0", "s2.0", "s3.0"}


def test_one_that_cannot_be_answered_has_its_own_status_and_fails_no_other(server, pairs):
    rows = [line(pairs(1.0)), line(b"abc"), "{", '{"input": "a", "base64": ""}', line(bytes(1001))]
    rows += ['{"input": {"a": 1}, "media_type": 5}', '{"other": 1}', line(pairs(2.0))]
    answer = server.post("/predict", content="\n".join(rows), headers=LINES)
    assert answer.status_code == 200
    found = answer.json()
    assert [one.get("status", 200) for one in found] == [200, 422, 422, 422, 413, 415, 422, 200]
    assert "send 8 bytes" in found[1]["detail"]
    assert all(one["detail"].strip(".").count(". ") >= 1 for one in found[2:7])


def test_of_which_none_can_be_answered_is_an_error_itself(server):
    assert server.post("/predict", content="{}", headers=LINES).status_code == 422
    assert server.post("/predict", content="\n", headers=LINES).status_code == 422
    many = server.post("/predict", content="{}\n" * 1001, headers=LINES)
    assert "1,001 payloads" in many.json()["detail"]


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        (b"\n" * 8_000_000, LINES["Content-Type"]),
        (b"--b\r\n" * 2_000_000, "multipart/form-data; boundary=b"),
    ],
    ids=["lines", "form"],
)
def test_millions_of_payloads_are_refused_before_each_becomes_an_object(server, body, kind):
    refused = server.post("/predict", content=body, headers={"Content-Type": kind}, timeout=10)
    assert (refused.status_code, "more than 1,000" in refused.json()["detail"]) == (422, True)


def test_the_files_of_a_form_are_answered_in_order(server, pairs):
    tricky = pairs(-0.0)[:4] + b"\r\n-\r"
    values = [("a", pairs(5.0)), ("b", tricky), ("c", pairs(7.0))]
    files = [("file", (name, payload, "application/x-pair")) for name, payload in values]
    found = server.post("/predict", files=files).json()
    assert [one["answer"] for one in found] == [5.0, -0.0, 7.0]


def test_a_part_carries_its_metadata(server, pairs, ledger):
    part = ("a", pairs(1.0), "application/x-pair", {"X-Sample-Metadata": '{"session": "Küche"}'})
    assert server.post("/predict", files={"file": part}).json()[0]["answer"] == 1.0
    with ledger.read() as connection:
        assert connection.execute(select(samples.c.group)).scalar_one() == "Küche"


@pytest.mark.parametrize("kind", ["multipart/form-data; boundary=b", "multipart/form-data"])
@pytest.mark.parametrize("body", [b"nothing", b"--b\r\nContent-Type: a/b\r\n\r\ncut off"])
def test_what_is_no_form_is_turned_down(server, kind, body):
    refused = server.post("/predict", content=body, headers={"Content-Type": kind})
    assert refused.status_code == 400
    assert "boundary" in refused.json()["detail"]


def test_a_request_with_the_same_key_is_answered_once(server, predict, ledger):
    key = {"Idempotency-Key": "7f3c"}
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda _: predict(server, 1.0, **key).json(), range(24)))
    assert {answer["request_id"] for answer in answers} == {answers[0]["request_id"]}
    assert predict(server, 1.0).json()["request_id"] != answers[0]["request_id"]
    with ledger.read() as connection:
        assert len(connection.execute(select(predictions.c.id)).all()) == 2


def test_a_key_is_known_after_a_restart(serve, release, predict):
    release(0.0)
    key = {"Idempotency-Key": "7f3c"}
    first = predict(serve(), 1.0, 0.25, **key).json()
    again = predict(serve(), 1.0, 0.25, **key).json()
    assert again == first


def test_a_key_with_another_payload_is_an_error(server, predict):
    predict(server, 1.0, **{"Idempotency-Key": "7f3c"})
    refused = predict(server, 2.0, **{"Idempotency-Key": "7f3c"})
    assert refused.status_code == 422
    assert "used with another payload" in refused.json()["detail"]
    assert predict(server, 2.0, **{"Idempotency-Key": "x" * 201}).status_code == 422


def test_a_request_that_failed_may_be_repeated_with_its_key(serve, release, predict):
    client = serve()
    key = {"Idempotency-Key": "7f3c"}
    assert predict(client, 1.0, **key).status_code == 503
    digest = release(0.0)
    client.post("/model", json={"digest": digest})
    assert predict(client, 1.0, **key).status_code == 200


def test_many_with_a_key_are_each_answered_once(server, pairs):
    body = "\n".join(line(pairs(n)) for n in (1.0, 2.0))
    headers = LINES | {"Idempotency-Key": "7f3c"}
    first, again = (server.post("/predict", content=body, headers=headers).json() for _ in range(2))
    assert first == again
    assert first[0]["request_id"] != first[1]["request_id"]


def test_pages_of_other_sites_may_not_ask_by_default(server, predict):
    refused = predict(server, 1.0, Origin=SITE)
    assert refused.status_code == 403
    assert (
        "access-control-allow-origin" not in server.get("/health", headers={"Origin": SITE}).headers
    )


def test_a_site_that_is_named_may_ask_and_no_other(release, serve, project, predict):
    release(0.0)
    settings = project.serve.model_copy(update={"cors_origins": (SITE,)})
    client = serve(project.model_copy(update={"serve": settings}))
    asks = {"Origin": SITE, "Access-Control-Request-Method": "POST"}
    asks["Access-Control-Request-Headers"] = "content-type, idempotency-key"
    preflight = client.options("/predict", headers=asks)
    assert preflight.status_code == 200
    assert preflight.headers["access-control-allow-origin"] == SITE
    assert predict(client, 1.0, Origin=SITE).headers["access-control-allow-origin"] == SITE
    assert predict(client, 1.0, Origin="https://evil.example").status_code == 403


@pytest.mark.parametrize("sent", [b"", b"POST /predict HTTP/1.1\r\nHost: localhost\r\n"])
def test_headers_that_never_come_hold_no_connection_for_ever(serve, monkeypatch, sent):
    monkeypatch.setattr("flywheel.serve.app._MOST_SECONDS", 0.2)
    address = serve(http=Connection).base_url
    with socket.create_connection((address.host, address.port), 30) as caller:
        caller.sendall(sent)
        answer = b"".join(iter(lambda: caller.recv(4096), b""))
    assert answer.startswith(b"HTTP/1.1 408")


def test_a_connection_lives_on_after_a_request(release, serve, monkeypatch, predict):
    release(0.0)
    monkeypatch.setattr("flywheel.serve.app._MOST_SECONDS", 0.2)
    client = serve(http=Connection)
    for _ in range(3):
        assert predict(client, 1.0).status_code == 200


def test_every_body_and_error_is_described(server):
    said = server.get("/openapi.json").json()
    for path, methods in said["paths"].items():
        for method, operation in methods.items():
            codes = set(operation["responses"])
            assert {"400", "401", "500"} <= codes, path
            if method == "post" and path != "/label-studio/events":
                assert operation["requestBody"]["content"], path
                assert {"413", "415", "422", "503"} <= codes, path
    predict = said["paths"]["/predict"]["post"]
    assert {"*/*", "application/jsonl", "multipart/form-data"} == set(
        predict["requestBody"]["content"]
    )
    assert "Idempotency-Key" in {one["name"] for one in predict["parameters"]}
    assert said["components"]["schemas"]["Error"]["required"] == ["detail"]


def test_what_was_left_by_a_killed_server_is_in_the_ledger_at_the_start(
    serve, release, predict, servers_ledger, project, monkeypatch
):
    monkeypatch.setattr("flywheel.serve.log._QUIET_SECONDS", 60.0)
    release(0.0)
    predict(serve(), 1.0)
    serve()
    with servers_ledger.read() as connection:
        assert len(connection.execute(select(predictions.c.id)).all()) == 1
    assert take_in(servers_ledger, project.state / "predictions") == 0
