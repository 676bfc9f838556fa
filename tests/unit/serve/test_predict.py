import json
import math
import socket

import numpy as np
import pytest
from sqlalchemy import select

from flywheel.ledger.predictions import get_prediction
from flywheel.ledger.samples import load_samples
from flywheel.ledger.tables import predictions, samples, skips
from flywheel.records import Split

HEADERS = {"Content-Type": "application/x-pair"}


def test_an_answer_carries_everything_that_the_caller_may_need(server, predict):
    answer = predict(server, 2.5, 0.75).json()
    assert answer["answer"] == 2.5
    assert answer["confidence"] == 0.75
    assert answer["latency_ms"] > 0
    assert answer["model_digest"] == server.get("/health").json()["digest"]
    assert set(answer) == {
        "request_id", "sample_id", "answer", "confidence", "defer", "model_digest", "latency_ms",
    }  # fmt: skip


def test_an_answered_prediction_is_stored_with_its_payload(server, predict, ledger, blobs):
    answer = predict(server, 2.5).json()
    with ledger.read() as connection:
        stored = get_prediction(connection, answer["request_id"])
        (sample,) = load_samples(connection, blobs, [stored.sample_id])
    assert stored.answer == 2.5
    assert stored.embedding.dtype == np.float32
    assert stored.embedding.tolist() == pytest.approx([2.5, 0.9])
    assert len(sample.payload) == 8


def test_the_group_comes_from_the_metadata_and_with_a_test_window_all_may_train(
    server, predict, ledger
):
    predict(server, 1.0, **{"X-Sample-Metadata": json.dumps({"session": 7})})
    with ledger.read() as connection:
        row = connection.execute(select(samples)).one()
    assert row.group == "7"
    assert row.metadata == {"session": 7}
    assert Split(row.split) is Split.TRAIN


def test_a_payload_sent_twice_is_one_sample_with_two_predictions(server, predict, ledger):
    predict(server, 1.0)
    predict(server, 1.0)
    with ledger.read() as connection:
        assert len(connection.execute(select(samples)).all()) == 1
        assert len(connection.execute(select(predictions)).all()) == 2


def test_a_confidence_that_is_no_number_is_stored_as_hard_and_set_aside_with_its_reason(
    server, predict, ledger
):
    answer = predict(server, 1.0, math.nan)
    assert answer.status_code == 200
    assert answer.json()["confidence"] == 0.0
    with ledger.read() as connection:
        skip = connection.execute(select(skips)).one()
        stored = get_prediction(connection, answer.json()["request_id"])
    assert skip.subject == f"prediction {answer.json()['request_id']}"
    assert "nan" in skip.reason
    assert stored.confidence == 0.0
    assert np.isfinite(stored.embedding).all()


def test_a_payload_that_the_task_cannot_read_is_422_with_the_task_s_words(server, ledger):
    refused = server.post("/predict", content=b"abc", headers=HEADERS)
    assert refused.status_code == 422
    assert "send 8 bytes" in refused.json()["detail"]
    with ledger.read() as connection:
        assert not connection.execute(select(predictions)).all()


@pytest.mark.parametrize(
    ("body", "headers", "status", "said"),
    [
        (b"", HEADERS, 422, "0 bytes"),
        (b"12345678", {}, 415, "image/png"),
        (b"12345678", {"Content-Type": "x/" + "y" * 200}, 415, "1 to 100"),
        (b"12345678", {"Content-Type": "Multipart/form-data; boundary=b"}, 400, "boundary"),
        (b"12345678", {"Content-Type": "application/x-www-form-urlencoded"}, 415, "payload itself"),
        (b"12345678", HEADERS | {"X-Sample-Metadata": "[1]"}, 422, "not an object"),
        (b"12345678", HEADERS | {"X-Sample-Metadata": "{"}, 422, "'{'"),
        (b"12345678", HEADERS | {"X-Sample-Metadata": '{"a": NaN}'}, 422, "NaN"),
        (b"12345678", HEADERS | {"X-Sample-Metadata": '{"session": "\\ud800"}'}, 422, "surrog"),
        (b"12345678", HEADERS | {"X-Sample-Metadata": '{"session": "\\u0000"}'}, 422, "NUL"),
        (b"12345678", HEADERS | {"X-Sample-Metadata": "[" * 9000}, 422, "recursion"),
        (b"1" * 1001, HEADERS, 413, "at most 1000"),
    ],
)
def test_what_cannot_be_a_sample_is_turned_down_with_a_reason(server, body, headers, status, said):
    refused = server.post("/predict", content=body, headers=headers)
    assert refused.status_code == status
    assert said in refused.json()["detail"]


@pytest.mark.parametrize(
    "start",
    [
        b"Content-Length: 1000000000\r\n\r\nonly the beginning",
        b"Transfer-Encoding: chunked\r\n\r\n44c\r\n" + b"x" * 1100 + b"\r\n",
    ],
)
def test_a_body_that_is_too_large_is_turned_down_before_all_of_it_came(server, start):
    address = (server.base_url.host, server.base_url.port)
    with socket.create_connection(address, timeout=30) as connection:
        connection.sendall(
            b"POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Type: a/b\r\n" + start
        )
        assert connection.recv(12) == b"HTTP/1.1 413"


def test_without_a_release_every_prediction_is_503_with_the_next_step(serve, predict):
    refused = predict(serve(), 1.0)
    assert refused.status_code == 503
    assert "flywheel night" in refused.json()["detail"]


def test_a_model_that_fails_is_500_and_the_server_lives_on(server, predict):
    failed = predict(server, 13.0)
    assert failed.status_code == 500
    assert "more than this model can bear" in failed.json()["detail"]
    assert predict(server, 14.0).json()["answer"] == 14.0


def test_metadata_in_raw_utf_8_is_understood(server, predict, ledger):
    predict(server, 1.0, **{"X-Sample-Metadata": '{"session": "Küche"}'.encode()})
    with ledger.read() as connection:
        assert connection.execute(select(samples.c.group)).scalar_one() == "Küche"
