import socket

import pytest

from flywheel.errors import RefusedError, TaskError, UnavailableError, UnknownIdError
from flywheel.serve import ModelServer

NO_DIGEST = "0" * 64


def of(client, token=None, project=None):
    known = client.headers.get("Authorization", "").removeprefix("Bearer ")
    return ModelServer(str(client.base_url), token or known, project=project)


def test_it_asks_and_swaps_what_serves(server, weights):
    model_server, digest = of(server), weights(5.0)
    assert model_server.digest() != digest
    assert model_server.activate(digest) == digest
    assert model_server.digest() == digest


def test_no_model_is_none(serve):
    assert of(serve()).digest() is None


def test_a_canary_of_many_samples_keeps_their_order(server, weights, predict):
    ids = [predict(server, float(n)).json()["sample_id"] for n in range(3)] * 200
    answers = of(server).canary(weights(10.0), ids)
    assert [answer.answer for answer in answers] == [10.0, 11.0, 12.0] * 200


def test_unknown_weights_are_an_unknown_id(server):
    with pytest.raises(UnknownIdError, match=NO_DIGEST):
        of(server).activate(NO_DIGEST)


def test_weights_of_another_network_are_a_task_error(server, blobs):
    with pytest.raises(TaskError, match="does not fit"):
        of(server).activate(blobs.put(b"no weights"))


def test_a_missing_token_is_refused_with_the_variable_s_name(serve, monkeypatch):
    monkeypatch.setenv("FLYWHEEL_SERVER_TOKEN", "open sesame")
    client = serve()
    with pytest.raises(RefusedError, match="FLYWHEEL_SERVER_TOKEN"):
        of(client).digest()
    assert of(client, "open sesame").digest() is None


OTHERS = {
    "digest": lambda server: server.digest(),
    "activate": lambda server: server.activate(NO_DIGEST),
    "canary": lambda server: server.canary(NO_DIGEST, [NO_DIGEST]),
}


@pytest.mark.parametrize("ask", OTHERS.values(), ids=OTHERS)
def test_the_server_of_another_project_is_refused_before_it_is_asked_anything(serve, ask):
    """It ended in a 404 about a sample that the other project's ledger cannot hold."""
    with pytest.raises(RefusedError, match=r"serves project 'pairs', not 'mine'\. Start yours"):
        ask(of(serve(), project="mine"))


def test_the_server_of_this_project_is_asked(server):
    assert of(server, project="pairs").digest() == of(server).digest()


def test_another_project_is_named_even_where_its_token_is_unknown(serve, monkeypatch):
    monkeypatch.setenv("FLYWHEEL_SERVER_TOKEN", "theirs")
    with pytest.raises(RefusedError, match="serves project 'pairs', not 'mine'"):
        of(serve(), "ours", project="mine").digest()


def test_no_server_is_unavailable_and_says_how_to_start_one():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    with pytest.raises(UnavailableError, match=f"127.0.0.1:{port}.*flywheel up"):
        ModelServer(f"http://127.0.0.1:{port}").digest()
