import json

import pytest
from sqlalchemy import select

from flywheel.ledger.tables import feedback


@pytest.fixture
def request_id(server, predict):
    return predict(server, 1.0).json()["request_id"]


def stored(ledger):
    with ledger.read() as connection:
        return connection.execute(select(feedback).order_by(feedback.c.seq)).all()


@pytest.mark.parametrize(
    ("kind", "value"),
    [("outcome", False), ("outcome", True), ("rating", 0.25), ("rating", 1), ("correction", [1])],
)
def test_feedback_is_stored_when_it_is_acknowledged(server, ledger, request_id, kind, value):
    body = {"request_id": request_id, "kind": kind, "value": value}
    assert server.post("/feedback", json=body).status_code == 200
    (entry,) = stored(ledger)
    assert (entry.prediction_id, entry.kind, entry.value) == (request_id, kind, value)


def test_the_same_feedback_twice_is_stored_once_and_other_feedback_beside_it(
    server, ledger, request_id
):
    for value in (True, True, False):
        body = {"request_id": request_id, "kind": "outcome", "value": value}
        assert server.post("/feedback", json=body).is_success
    assert [entry.value for entry in stored(ledger)] == [True, False]


def test_feedback_notes_the_source_that_the_caller_names(server, ledger, request_id):
    body = {"request_id": request_id, "kind": "outcome", "value": False}
    assert server.post("/feedback", json={**body, "source": "cell 2"}).is_success
    assert server.post("/feedback", json={**body, "value": True}).is_success
    assert server.post("/feedback", json={**body, "source": "a\x1bb"}).status_code == 422
    assert [entry.source for entry in stored(ledger)] == ["cell 2", ""]


def test_feedback_on_an_unknown_request_is_404(server, ledger):
    body = {"request_id": "unknown", "kind": "outcome", "value": True}
    refused = server.post("/feedback", json=body)
    assert refused.status_code == 404
    assert "'unknown'" in refused.json()["detail"]
    assert stored(ledger) == []


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        ("outcome", 1),
        ("outcome", "true"),
        ("rating", True),
        ("rating", 1.5),
        ("rating", float("nan")),
        ("correction", None),
        ("correction", float("inf")),
        ("opinion", True),
    ],
)
def test_a_wrong_kind_or_value_is_422_with_what_is_allowed(server, ledger, request_id, kind, value):
    body = json.dumps({"request_id": request_id, "kind": kind, "value": value})
    headers = {"Content-Type": "application/json"}
    refused = server.post("/feedback", content=body, headers=headers)
    assert refused.status_code == 422
    assert "outcome" in refused.json()["detail"]
    assert stored(ledger) == []


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b'{"request_id": "a"}', b"\xff"])
def test_a_body_that_is_no_feedback_is_422(server, body):
    headers = {"Content-Type": "application/json"}
    assert server.post("/feedback", content=body, headers=headers).status_code == 422


def test_commands_that_are_not_sent_as_json_are_415(server):
    refused = server.post("/feedback", content=b"{}", headers={"Content-Type": "text/plain"})
    assert refused.status_code == 415
    assert "application/json" in refused.json()["detail"]
