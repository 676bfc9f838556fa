"""The proof of malformed requests in short: 1,000 of them, no 5xx, and the server lives."""

import importlib.util
import sys
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

_PATH = Path(__file__).parents[2] / "proofs" / "prove_requests.py"


@pytest.fixture(scope="module")
def proof():
    spec = importlib.util.spec_from_file_location("prove_requests", _PATH)
    module = sys.modules[spec.name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    yield module
    del sys.modules[spec.name]


def test_a_thousand_malformed_requests_are_answered_without_a_5xx(
    proof, release, serve, monkeypatch
):
    monkeypatch.setenv("FLYWHEEL_SERVER_TOKEN", proof.TOKEN)
    release(0.0)
    server = serve()
    host, port = server.base_url.host, server.base_url.port
    with ThreadPoolExecutor(8) as pool:
        sent = pool.map(lambda seed: proof.send(host, port, proof.malformed(seed)), range(1000))
        counts = Counter(sent)
    assert counts.total() == 1000
    assert [status for status in counts if status >= 500 or status < 0] == []
    assert {0, 200, 400, 401, 404, 405, 413, 415, 422} <= counts.keys()
    assert counts[0] < 150  # only those that break HTTP itself
    assert server.get("/health").status_code == 200


def test_equal_seeds_make_equal_requests(proof):
    assert proof.malformed(7) == proof.malformed(7) != proof.malformed(8)
