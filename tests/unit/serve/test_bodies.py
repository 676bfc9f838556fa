"""What is sent is read within limits: packed, huge, nested, and by many at once."""

import gzip
import json
import socket
import zlib

import pytest
from sqlalchemy import select

from flywheel.ledger.tables import samples

HEADERS = {"Content-Type": "application/octet-stream"}
JSON = {"Content-Type": "application/json"}
GZIP = {"Content-Encoding": "gzip"}


@pytest.mark.parametrize(
    ("pack", "name"),
    [(gzip.compress, "gzip"), (gzip.compress, "X-GZIP"), (zlib.compress, "deflate")],
)
def test_a_packed_sample_is_the_sample(server, pack, name):
    """The packed bytes became the sample."""
    plain = server.post("/predict", content=bytes(8), headers=HEADERS).json()
    headers = HEADERS | {"Content-Encoding": name}
    packed = server.post("/predict", content=pack(bytes(8)), headers=headers).json()
    assert packed["sample_id"] == plain["sample_id"]


def test_packed_feedback_is_read(server, predict):
    given = {
        "request_id": predict(server, 1.0).json()["request_id"],
        "kind": "outcome",
        "value": True,
    }
    stored = server.post(
        "/feedback", content=gzip.compress(json.dumps(given).encode()), headers=JSON | GZIP
    )
    assert stored.status_code == 200


@pytest.mark.parametrize(
    ("body", "encoding", "status", "said"),
    [
        (gzip.compress(bytes(500_000)), "gzip", 413, "more than 1000 bytes once unpacked"),
        (zlib.compress(bytes(1001)), "deflate", 413, "at most 1000"),
        (gzip.compress(b"12345678")[:-4], "gzip", 400, "ends too early"),
        (gzip.compress(b"12345678") + b"more", "gzip", 400, "follows its end"),
        (b"12345678", "gzip", 400, "is no gzip"),
        (b"12345678", "br", 415, "as gzip or deflate"),
        (b"12345678", "zstd", 415, "'zstd'"),
        (gzip.compress(gzip.compress(b"12345678")), "gzip, gzip", 415, "packed once"),
    ],
    ids=["bomb", "deflate", "cut", "more", "no gzip", "br", "zstd", "twice"],
)
def test_what_cannot_be_unpacked_is_turned_down(server, body, encoding, status, said):
    refused = server.post(
        "/predict", content=body, headers=HEADERS | {"Content-Encoding": encoding}
    )
    assert (refused.status_code, said in refused.json()["detail"]) == (status, True)


def test_identity_is_no_encoding(server):
    headers = HEADERS | {"Content-Encoding": "identity"}
    assert server.post("/predict", content=bytes(8), headers=headers).status_code == 200


def test_many_unknown_keys_are_ten_faults_and_a_number(server):
    """800,000 keys took 14 s, and the answer had 36 MB."""
    body = json.dumps({f"k{number}": 1 for number in range(60_000)}).encode()
    refused = server.post("/feedback", content=body, headers=JSON)
    assert refused.status_code == 422
    assert "'k9' is not known; and 59,990 more. The known keys are" in refused.json()["detail"]
    assert len(refused.content) < 1000


@pytest.mark.parametrize(
    ("path", "body", "status"),
    [
        ("/feedback", b"{" + b" " * 1_000_000 + b"}", 413),
        ("/model", b"{" + b" " * 262_144 + b"}", 413),
        ("/model/canary", b'{"digest": "x", "sample_ids": [' + b"1," * 90_000 + b"1]}", 422),
        ("/feedback", b"[" * 400_000, 422),
        ("/feedback", b'{"request_id": "a", "kind": "correction", "value": NaN}', 422),
        ("/feedback", b'{"request_id": "a", "kind": "correction", "value": "\\u0000"}', 422),
        ("/feedback", b'{"request_id": "a\\u0000", "kind": "outcome", "value": true}', 422),
        ("/feedback", b'{"request_id": "\\ud800", "kind": "outcome", "value": true}', 422),
        (
            "/feedback",
            b'{"request_id": "a", "kind": "correction", "value": ' + b"9" * 9000 + b"}",
            422,
        ),
    ],
    ids=["large", "command", "list", "deep", "NaN", "NUL", "id", "surrogate", "digits"],
)
def test_a_command_that_is_no_command_is_a_small_refusal(server, path, body, status):
    refused = server.post(path, content=body, headers=JSON)
    assert refused.status_code == status
    assert len(refused.content) < 5000


def test_no_more_is_held_than_all_requests_may_hold_together(release, serve, monkeypatch):
    monkeypatch.setattr("flywheel.serve.requests._HELD_PAYLOADS", 20 / 1_000_000)
    release(0.0)
    server = serve()
    for _ in range(5):  # each is given back, also one that is refused
        assert server.post("/predict", content=bytes(8), headers=HEADERS).status_code == 200
        assert server.post("/predict", content=bytes(7), headers=HEADERS).status_code == 422
    refused = server.post("/predict", content=bytes(21), headers=HEADERS)
    assert (refused.status_code, refused.headers["Retry-After"]) == (503, "1")


def test_a_body_that_never_comes_holds_no_connection_for_ever(server, monkeypatch):
    monkeypatch.setattr("flywheel.serve.requests._MOST_SECONDS", 0.2)
    with socket.create_connection((server.base_url.host, server.base_url.port), 30) as caller:
        head = "POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Type: x/y\r\nContent-Length: 9"
        caller.sendall(f"{head}\r\n\r\nab".encode())
        answer = b"".join(iter(lambda: caller.recv(4096), b""))
    assert answer.startswith(b"HTTP/1.1 408")


@pytest.mark.parametrize("path", ["/health", "/readyz", "/model", "/metrics"])
def test_every_page_answers_head_as_probes_ask(server, path):
    """curl -I and wget --spider got 405, and the probe failed."""
    asked, read = server.head(path), server.get(path)
    assert (asked.status_code, asked.content) == (200, b"")
    assert asked.headers["content-type"] == read.headers["content-type"]


def test_a_bomb_of_a_picture_changes_nothing(server, ledger):
    server.post("/predict", content=gzip.compress(bytes(10**7)), headers=HEADERS | GZIP)
    with ledger.read() as connection:
        assert not connection.execute(select(samples)).all()
