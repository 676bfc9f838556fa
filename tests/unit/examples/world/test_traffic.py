"""Arrivals go out whole, feedback comes back for a part, and the counts are true."""

import json

import numpy as np
import pytest

from flywheel.errors import RefusedError, UnavailableError
from flywheel.examples.traffic import Arrival, Reaction, Sent, send


def _arrivals(num_right: int, num_wrong: int) -> list[Arrival]:
    truths = ["7"] * num_right + ["8"] * num_wrong
    return [
        Arrival(payload=f"7 {i}".encode(), media_type="text/plain", metadata={"n": i}, truth=truth)
        for i, truth in enumerate(truths)
    ]


def _rng() -> np.random.Generator:
    return np.random.default_rng(0)


def test_every_arrival_is_sent_once_with_its_type_and_metadata(server):
    send(_arrivals(20, 0), server.url, rng=_rng())
    sent = {body: headers for path, headers, body in server.seen if path == "/predict"}
    assert set(sent) == {f"7 {i}".encode() for i in range(20)}
    assert all(headers["Content-Type"] == "text/plain" for headers in sent.values())
    assert {json.loads(h["X-Sample-Metadata"])["n"] for h in sent.values()} == set(range(20))


def test_the_truth_never_goes_along_with_a_sample(server):
    hidden = Arrival(payload=b"7 0", media_type="text/plain", metadata={"n": 0}, truth="hidden")
    send([hidden] * 20, server.url, rng=_rng())
    requests = [(headers, body) for path, headers, body in server.seen if path == "/predict"]
    assert len(requests) == 20
    assert "hidden" not in str(requests)


def test_accuracy_is_the_share_of_right_answers(server):
    sent = send(_arrivals(30, 10), server.url, rng=_rng())
    assert (sent.num_sent, sent.accuracy) == (40, 0.75)


def test_nothing_sent_has_no_accuracy(server):
    assert send([], server.url, rng=_rng()) == Sent(
        num_sent=0, num_outcomes=0, num_corrections=0, accuracy=None
    )


@pytest.fixture(scope="module")
def much_sent(busy_server):
    """What is said of 600 arrivals that were answered right and 200 that were not."""
    return send(_arrivals(600, 200), busy_server.url, rng=_rng())


@pytest.fixture(scope="module")
def feedback(much_sent, busy_server):
    """Number of an arrival and what came back about it."""
    bodies = busy_server.bodies("/feedback")
    return [(int(body["request_id"].split()[1]), body) for body in bodies]


def test_counts_are_those_that_the_server_got(much_sent, feedback):
    sent, kinds = much_sent, [body["kind"] for _, body in feedback]
    assert kinds.count("outcome") == sent.num_outcomes
    assert kinds.count("correction") == sent.num_corrections > 0


def test_about_60_percent_get_an_outcome_and_2_percent_of_those_are_wrong(feedback):
    outcomes = [body["value"] for number, body in feedback if number < 600]
    assert 0.55 < len(outcomes) / 600 < 0.65
    assert 0.005 < np.mean([value is False for value in outcomes]) < 0.04


def test_only_wrong_answers_are_corrected_and_with_the_truth(feedback):
    corrected = [(number, body) for number, body in feedback if body["kind"] == "correction"]
    assert all(number >= 600 for number, _ in corrected)
    assert {body["value"] for _, body in corrected} == {"8"}


def test_one_seed_gives_one_feedback(server):
    first, second = (send(_arrivals(15, 15), server.url, rng=_rng()) for _ in range(2))
    bodies = server.bodies("/feedback")
    half = len(bodies) // 2
    assert first == second
    assert sorted(map(str, bodies[:half])) == sorted(map(str, bodies[half:]))


def test_a_token_goes_with_every_request(server):
    send(_arrivals(5, 20), server.url, "secret", rng=_rng())
    assert {headers["Authorization"] for _, headers, _ in server.seen} == {"Bearer secret"}


def test_without_a_token_none_is_sent(server):
    send(_arrivals(3, 0), server.url, rng=_rng())
    assert not any("Authorization" in headers for _, headers, _ in server.seen)


def test_progress_counts_up_to_all(server):
    seen = []
    send(_arrivals(5, 0), server.url, rng=_rng(), progress=lambda *done: seen.append(done))
    assert seen == [(1, 5), (2, 5), (3, 5), (4, 5), (5, 5)]


def test_what_counts_as_right_can_be_said(server):
    sent = send(_arrivals(0, 4), server.url, rng=_rng(), is_right=lambda a, b: int(a) + 1 == int(b))
    assert sent.accuracy == 1.0


@pytest.mark.parametrize(
    ("settled", "expected"),
    [
        (Reaction(gives_outcome=True, misjudges=False, corrects=False), ("outcome", True)),
        (Reaction(gives_outcome=True, misjudges=True, corrects=True), ("outcome", False)),
        (
            Reaction(gives_outcome=True, misjudges=False, corrects=False, measured="7.1"),
            ("correction", "7.1"),
        ),
    ],
)
def test_an_arrival_with_a_reaction_of_its_own_gets_that_one(server, settled, expected):
    one = Arrival(payload=b"7 0", media_type="text/plain", metadata={}, truth="7", reaction=settled)
    send([one], server.url, rng=_rng())
    reported = server.bodies("/feedback")
    assert [(body["kind"], body["value"]) for body in reported] == [expected]


def test_an_arrival_may_come_with_no_reaction_at_all(server):
    silent = Reaction(gives_outcome=False, misjudges=False, corrects=False)
    arrivals = [
        Arrival(payload=b"7 0", media_type="text/plain", metadata={}, truth="8", reaction=silent)
    ] * 50
    assert send(arrivals, server.url, rng=_rng()).num_outcomes == 0
    assert server.bodies("/feedback") == []


@pytest.mark.parametrize(("status", "error"), [(401, RefusedError), (413, RefusedError)])
def test_a_refusal_is_reported_with_the_servers_words(server, status, error):
    server.status = status
    with pytest.raises(error, match=f"/predict .* answered {status}.*request_id"):
        send(_arrivals(1, 0), server.url, rng=_rng())


def test_a_server_that_is_not_ready_is_unavailable(server):
    server.status = 503
    with pytest.raises(UnavailableError, match="send again when it is ready"):
        send(_arrivals(1, 0), server.url, rng=_rng())


def test_no_server_is_unavailable():
    with pytest.raises(UnavailableError, match="start it with flywheel up"):
        send(_arrivals(1, 0), "http://127.0.0.1:9", rng=_rng())


def test_a_refusal_stops_the_rest(server):
    server.status = 401
    with pytest.raises(RefusedError):
        send(_arrivals(500, 0), server.url, rng=_rng())
    assert len(server.seen) < 100
