import json
import os
import shutil
import signal
import socket
import struct
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

import httpx
import pytest
from sqlalchemy import insert, select

from flywheel.blobs import Blobs
from flywheel.errors import FlywheelError
from flywheel.ledger import Ledger
from flywheel.ledger.predictions import get_prediction
from flywheel.ledger.releases import current_release
from flywheel.ledger.rollouts import Rollout, Stage, begin_rollout, last_rollout
from flywheel.ledger.samples import load_samples
from flywheel.ledger.segments import log_folder, take_in
from flywheel.ledger.serving_tables import checkpoints, releases
from flywheel.ledger.tables import feedback, predictions
from flywheel.model import weights_of
from flywheel.project import load_project
from flywheel.serve import ModelServer
from flywheel.task import load_task

pytestmark = pytest.mark.integration

TOY = Path(__file__).parents[1] / "toys" / "pair_task.py"
PROGRAM = (
    "import sys; from flywheel.project import load_project; from flywheel.serve import run; "
    "run(load_project(sys.argv[1]))"
)
NOW = datetime(2026, 1, 1, tzinfo=UTC)


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return listener.getsockname()[1]


@pytest.fixture
def project(tmp_path):
    shutil.copy(TOY, tmp_path)
    (tmp_path / "flywheel.toml").write_text(
        f'[project]\nname = "pairs"\ntask = "pair_task:task"\n[serve]\nport = {free_port()}\n'
        '[train]\ndevice = "cpu"\n'
    )
    return load_project(tmp_path)


@pytest.fixture
def ledger(project):
    with closing(Ledger.open(project.ledger_url)) as ledger:
        yield ledger


@pytest.fixture
def released(project, ledger):
    weights = weights_of(load_task("pair_task:task", project.directory).model())
    digest = Blobs.open(project.blobs_url).put(weights)
    with ledger.begin() as connection:
        connection.execute(insert(checkpoints), {"digest": digest, "record": {}, "created_at": NOW})
        connection.execute(
            insert(releases),
            {"number": 1, "checkpoint_digest": digest, "reason": "test", "created_at": NOW},
        )
    return digest


def answers(url):
    try:
        return ModelServer(url).digest() is not None
    except FlywheelError:
        return False


@pytest.fixture
def start(project, released):
    """Start the real server in a process of its own and wait until it answers."""
    processes = []

    def begin():
        environment = {k: v for k, v in os.environ.items() if k != "FLYWHEEL_SERVER_TOKEN"}
        process = subprocess.Popen(
            [sys.executable, "-c", PROGRAM, str(project.directory)],
            env=environment | {"OMP_NUM_THREADS": "1"},
        )
        processes.append(process)
        deadline = time.monotonic() + 120
        while not answers(project.server_url):
            assert process.poll() is None, "the server ended by itself"
            assert time.monotonic() < deadline, "the server does not answer"
            time.sleep(0.1)
        return process

    yield begin
    for process in processes:
        process.kill()
        process.wait()


def send(client, number):
    """Predict and give feedback; None when the server died before it acknowledged."""
    try:
        headers = {"Content-Type": "application/x-pair"}
        answer = client.post("/predict", content=struct.pack("<2f", number, 0.9), headers=headers)
        request_id = answer.raise_for_status().json()["request_id"]
    except httpx.TransportError:
        return None, False
    body = json.dumps({"request_id": request_id, "kind": "outcome", "value": True})
    try:
        headers = {"Content-Type": "application/json"}
        said = client.post("/feedback", content=body, headers=headers)
    except httpx.TransportError:
        return request_id, False
    return request_id, said.is_success


def send_until_killed(process, url):
    """Send from eight threads, kill -9 amid it; what was acknowledged: (request id, feedback)."""
    with httpx.Client(base_url=url, timeout=30) as client, ThreadPoolExecutor(8) as pool:
        sent = [pool.submit(send, client, 20.0 + number) for number in range(2000)]
        while sum(request.done() for request in sent) < 200:
            time.sleep(0.01)
        process.send_signal(signal.SIGKILL)
        process.wait()
        return [request.result() for request in sent if request.result()[0] is not None]


def test_a_kill_9_loses_nothing_that_was_acknowledged(start, project, ledger):
    acknowledged = send_until_killed(start(), project.server_url)
    assert 200 <= len(acknowledged) < 2000
    blobs = Blobs.open(project.blobs_url)
    take_in(ledger, log_folder(project))
    with ledger.read() as connection:
        with_feedback = set(connection.execute(select(feedback.c.prediction_id)).scalars())
        for request_id, has_feedback in acknowledged:
            stored = get_prediction(connection, request_id)
            (sample,) = load_samples(connection, blobs, [stored.sample_id])
            assert struct.unpack("<2f", sample.payload)[0] == stored.answer
            assert request_id in with_feedback or not has_feedback


def test_after_a_kill_9_the_next_server_goes_on_with_the_released_model(
    start, project, released, ledger
):
    send_until_killed(start(), project.server_url)
    take_in(ledger, log_folder(project))
    with ledger.read() as connection:
        before = len(connection.execute(select(predictions.c.id)).all())
    start()
    assert ModelServer(project.server_url).digest() == released
    with httpx.Client(base_url=project.server_url) as client:
        assert send(client, 5.0)[1]
    with ledger.read() as connection:
        assert len(connection.execute(select(predictions.c.id)).all()) == before + 1


def test_a_terminated_server_answers_who_is_inside_and_ends(start, project, ledger):
    process = start()
    with (
        httpx.Client(base_url=project.server_url, timeout=30) as client,
        ThreadPoolExecutor(8) as pool,
    ):
        sent = [pool.submit(send, client, float(number)) for number in range(20, 220)]
        process.terminate()
        acknowledged = [one.result()[0] for one in sent]
    assert process.wait(30) in {0, -signal.SIGTERM}
    with ledger.read() as connection:
        for request_id in filter(None, acknowledged):
            assert get_prediction(connection, request_id)


def test_a_body_that_never_comes_does_not_keep_a_server_from_ending(project, start):
    process = start()
    address = httpx.URL(project.server_url)
    with socket.create_connection((address.host, address.port)) as caller:
        head = "POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Type: x/y\r\nContent-Length: 9"
        caller.sendall(f"{head}\r\n\r\nab".encode())
        time.sleep(0.5)
        process.terminate()
        assert process.wait(30) in {0, -signal.SIGTERM}


def test_a_canary_goes_on_after_a_kill_9_and_is_released(start, project, released, ledger):
    network = load_task("pair_task:task", project.directory).model()
    network.bias.data.fill_(0.5)
    candidate = Blobs.open(project.blobs_url).put(weights_of(network))
    now = datetime.now(UTC)
    limits = {"errors": 0.1, "deferred": 0.5, "slow": 0.5, "slow_ms": 60_000.0}
    rollout = Rollout(
        number=0,
        digest=candidate,
        threshold=None,
        champion_digest=released,
        reason="decision 1",
        stages=(
            Stage(kind="shadow", share=1.0, seconds=0),
            Stage(kind="canary", share=1.0, seconds=0),
        ),
        min_requests=10,
        limits=limits | {"differing": 0.9999, "outcomes": 0.9},
        stage=0,
        stage_began_at=now,
        created_at=now,
    )
    with ledger.begin() as connection:
        row = {"digest": candidate, "record": {}, "created_at": now}
        connection.execute(insert(checkpoints), row)
        begin_rollout(connection, rollout)
    process = start()
    with httpx.Client(base_url=project.server_url, timeout=30) as client:
        predict_until(client, ledger, lambda found: found.stage == 1)
        process.send_signal(signal.SIGKILL)
        process.wait()
    start()
    with httpx.Client(base_url=project.server_url, timeout=30) as client:
        predict_until(client, ledger, lambda found: found.state == "promoted")
    assert ModelServer(project.server_url).digest() == candidate
    with ledger.read() as connection:
        assert current_release(connection).checkpoint_digest == candidate


def predict_until(client, ledger, is_so):
    """Send until the rollout in the ledger is where it should be."""
    give_up = time.monotonic() + 60
    while time.monotonic() < give_up:
        assert send(client, 20.0 + time.monotonic() % 1)[0]
        with ledger.read() as connection:
            if is_so(last_rollout(connection)):
                return
    raise AssertionError("the rollout did not go on")
