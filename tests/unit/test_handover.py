"""A release reaches a server of the user's own, or one line says what stands in its way."""

import hashlib
import hmac
import json
import threading
import time
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
import safetensors.torch
import torch
from worlds.quick import quick

from flywheel import handover
from flywheel.handover import advance, describe_handover, is_due_again, keep_trying
from flywheel.ledger.releases import Handover
from flywheel.loop.release import roll_back
from flywheel.loop.submit import register_champion
from flywheel.report import status
from flywheel.testing import LedgerBuilder, open_memory, toy_task

KEY = "a long secret"


class Theirs(BaseHTTPRequestHandler):
    """A server that is not ours: it hears of releases, and reports what it is set to."""

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.heard.append((dict(self.headers), body))
        self.answer(self.server.hook_status, b"")

    def do_GET(self):
        time.sleep(self.server.delay)
        self.answer(200, self.server.health)

    def answer(self, status, body):
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


@pytest.fixture(autouse=True)
def _quick(monkeypatch):
    monkeypatch.setenv("FLYWHEEL_RELEASE_SECRET", KEY)
    with quick():
        yield


@pytest.fixture
def theirs():
    server = ThreadingHTTPServer(("127.0.0.1", 0), Theirs)
    server.heard, server.hook_status, server.health, server.delay = [], 204, b"{}", 0.0
    server.url = f"http://127.0.0.1:{server.server_port}"
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


@contextmanager
def opened(tmp_path, theirs, **serve):
    given = {"announce_url": theirs.url, "health_url": theirs.url, "handover": "out"}
    serve = {"mode": "external", **given, **serve}
    train = {"device": "cpu", "steps": 30}
    with open_memory(toy_task(), tmp_path, serve=serve, train=train) as memory:
        yield memory.loop


@pytest.fixture
def loop(tmp_path, theirs):
    with opened(tmp_path, theirs) as loop:
        yield loop


@pytest.fixture
def first(loop):
    """The first release."""
    return register_champion(loop, folder_of(loop, 1.0))


def folder_of(loop, slope):
    weights = {"0.weight": torch.tensor([[-slope, 0.0], [slope, 0.0]]), "0.bias": torch.zeros(2)}
    folder = loop.project.directory / f"model {slope}"
    folder.mkdir()
    safetensors.torch.save_file(weights, folder / "network.safetensors")
    return folder


def look(loop, after=timedelta()):
    """Try again; the state and what is said of it."""
    now = loop.now() + after
    release, found = advance(loop.project, loop.ledger, loop.blobs, now)
    return found.state(now), describe_handover(release, found, now)


def test_the_artifact_is_there_with_the_digests_of_its_files(loop, first):
    (place,) = (loop.project.directory / "out").iterdir()
    manifest = json.loads((place / "manifest.json").read_text())
    assert (manifest["release"], manifest["digest"]) == (1, first.checkpoint_digest)
    for file in manifest["files"]:
        data = (place / file["name"]).read_bytes()
        assert hashlib.sha256(data).hexdigest() == file["sha256"]


def test_the_webhook_is_signed_and_heard_once(loop, first, theirs):
    look(loop)
    ((headers, body),) = theirs.heard
    text = headers["X-Flywheel-Timestamp"].encode() + b"." + body
    wanted = hmac.new(KEY.encode(), text, hashlib.sha256).hexdigest()
    assert headers["X-Flywheel-Signature"] == f"sha256={wanted}"
    assert json.loads(body)["digest"] == first.checkpoint_digest


def test_a_release_is_announced_until_its_digest_is_reported(loop, first, theirs):
    assert look(loop)[0] == "announced"
    assert any("release 1 is announced" in line for line in status(loop).lines())
    theirs.health = json.dumps({"digest": first.checkpoint_digest}).encode()
    assert look(loop)[0] == "verified"
    assert any("release 1 is verified since" in line for line in status(loop).lines())


def test_after_its_deadline_it_is_overdue(loop, first):
    assert look(loop, timedelta(hours=25))[0] == "overdue"


FAULTS = [
    (b'{"digest": "0123"}', "reports '0123', and"),
    (b'{"digest": null}', "reports 'None', and"),
    (b"{}", "reports 'None', and"),
    (b"<html>all is well</html>", "answers '<html>all is well</html>', which is no JSON"),
    (b"[" * 70_000, "which is no JSON"),
    (b'{"digest": 7}', "which is no JSON"),
]


@pytest.mark.parametrize(("health", "why"), FAULTS)
def test_a_health_address_that_is_wrong_is_one_line(loop, first, theirs, health, why):
    theirs.health = health
    state, said = look(loop)
    assert (state, why in said, "\n" in said) == ("announced", True, False), said


def test_one_that_hangs_is_one_line(loop, first, theirs, monkeypatch):
    monkeypatch.setattr(handover, "_TIMEOUT_SECONDS", 0.2)
    theirs.delay = 1.0
    assert "did not answer within 0.2 s" in look(loop)[1]


def test_one_that_lies_is_found_out_by_its_log(loop, first, theirs):
    theirs.health = json.dumps({"digest": first.checkpoint_digest}).encode()
    look(loop)
    past = LedgerBuilder(loop.ledger)
    past.now = loop.now() + timedelta(minutes=1)
    past.predict(*[0.9] * 30, model_digest="old model")
    state, said = look(loop, timedelta(minutes=2))
    assert (state, "its log names 'old model' since then" in said) == ("announced", True), said


def test_one_that_goes_back_is_no_longer_verified(loop, first, theirs):
    theirs.health = json.dumps({"digest": first.checkpoint_digest}).encode()
    assert look(loop)[0] == "verified"
    theirs.health = b'{"digest": "older"}'
    assert look(loop)[0] == "announced"


def test_without_a_health_address_the_log_verifies(tmp_path, theirs):
    with opened(tmp_path, theirs, health_url=None) as loop:
        first = register_champion(loop, folder_of(loop, 1.0))
        assert look(loop)[0] == "announced"
        past = LedgerBuilder(loop.ledger)
        past.now = loop.now()
        past.predict(0.9, model_digest=first.checkpoint_digest)
        assert look(loop)[0] == "verified"


def test_a_receiver_that_is_down_for_a_day_hears_of_it_when_it_is_back(loop, theirs):
    theirs.hook_status = 503
    register_champion(loop, folder_of(loop, 1.0))
    begun = loop.now()
    for minutes in range(0, 24 * 60, 5):
        keep_trying(
            loop.project, loop.ledger, loop.blobs, lambda m=minutes: begun + timedelta(minutes=m)
        )
    tries = len(theirs.heard)
    assert 24 <= tries <= 40
    assert "answered 503 to the announcement" in look(loop)[1]
    theirs.hook_status = 200
    keep_trying(loop.project, loop.ledger, loop.blobs, lambda: begun + timedelta(hours=26))
    look(loop)
    assert len(theirs.heard) == tries + 2


def test_a_secret_that_is_missing_and_a_folder_that_is_none_are_named(
    tmp_path, theirs, monkeypatch
):
    monkeypatch.delenv("FLYWHEEL_RELEASE_SECRET")
    with opened(tmp_path, theirs) as loop:
        register_champion(loop, folder_of(loop, 1.0))
        assert "FLYWHEEL_RELEASE_SECRET is not set" in look(loop)[1]
        (tmp_path / "taken").write_text("")
    with opened(tmp_path, theirs, handover="taken") as loop:
        with loop.ledger.begin() as connection:
            connection.exec_driver_sql("UPDATE handovers SET address = NULL")
        assert "taken/release-1-" in look(loop)[1]


def test_going_back_is_handed_over_in_the_same_way(loop, first, theirs):
    second = register_champion(loop, folder_of(loop, 3.0))
    theirs.health = json.dumps({"digest": second.checkpoint_digest}).encode()
    assert look(loop)[0] == "verified"
    third = roll_back(loop, "bad")
    assert third.checkpoint_digest == first.checkpoint_digest
    assert json.loads(theirs.heard[-1][1])["release"] == 3
    assert "announced" in look(loop)[0]
    theirs.health = json.dumps({"digest": first.checkpoint_digest}).encode()
    assert look(loop)[0] == "verified"


def test_a_champion_of_answers_only_is_verified_by_its_name(loop, theirs):
    register_champion(loop, "resnet-3")
    assert json.loads(theirs.heard[0][1])["model"] == "resnet-3"
    theirs.health = b'{"digest": "resnet-3"}'
    assert look(loop)[0] == "verified"


def test_the_next_try_comes_later_each_time():
    now = datetime(2026, 3, 1, tzinfo=UTC)
    waits = []
    for tries in range(9):
        tried = Handover(release=1, due_at=now, tried_at=now, tries=tries)
        waits.append(next(m for m in range(90) if is_due_again(tried, now + timedelta(minutes=m))))
    assert waits == [1, 2, 4, 8, 16, 32, 60, 60, 60]
