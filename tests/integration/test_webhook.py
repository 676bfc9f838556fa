"""Label Studio's events at the real model server: a burst makes few calls, and none is lost."""

import http.client
import json
import os
import shutil
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import numpy as np
import pytest

from flywheel.project import load_project
from flywheel.serve import webhook_of

pytestmark = pytest.mark.integration

TOY = Path(__file__).parents[1] / "toys" / "pair_task.py"
PROGRAM = """
import sys
from flywheel.project import load_project
from flywheel.serve import Listeners, run

def notify(num_events):
    with open("calls.txt", "a") as file:
        print(num_events, file=file)

run(load_project("."), listeners=Listeners(on_annotations=notify))
"""
EVENTS, THREADS = 2_000, 8
BODY = json.dumps({"action": "ANNOTATION_CREATED"})


@pytest.fixture
def project(tmp_path, free_url, monkeypatch):
    monkeypatch.setenv("FLYWHEEL_WEBHOOK_SECRET", "only the two of us know")
    shutil.copy(TOY, tmp_path)
    port = free_url().rpartition(":")[2]
    (tmp_path / "flywheel.toml").write_text(
        f'[project]\nname = "pairs"\ntask = "pair_task:task"\n[serve]\nport = {port}\n'
    )
    return load_project(tmp_path)


@pytest.fixture
def server(project):
    """The server in a process of its own, without a model."""
    environment = {k: v for k, v in os.environ.items() if k != "FLYWHEEL_SERVER_TOKEN"}
    process = subprocess.Popen(
        [sys.executable, "-c", PROGRAM],
        env=environment | {"OMP_NUM_THREADS": "1"},
        cwd=project.directory,
    )
    end = time.monotonic() + 120
    while not lives(project.server_url):
        assert process.poll() is None, "the server ended by itself"
        assert time.monotonic() < end, "the server does not answer"
        time.sleep(0.1)
    yield process
    process.kill()
    process.wait()


def lives(url):
    try:
        return httpx.get(f"{url}/health").is_success
    except httpx.TransportError:
        return False


def calls_made(project):
    """The number of events of each call so far."""
    file = project.directory / "calls.txt"
    return [int(line) for line in file.read_text().split()] if file.exists() else []


def post(webhook, count):
    """Post events one after the other, each over a connection of its own as Label Studio does."""
    url = httpx.URL(webhook.url)
    headers = {"X-Flywheel-Secret": webhook.secret, "Content-Type": "application/json"}
    seconds, statuses = [], []
    for _ in range(count):
        began = time.perf_counter()
        connection = http.client.HTTPConnection(url.host, url.port, timeout=30)
        connection.request("POST", url.path, BODY, headers)
        statuses.append(connection.getresponse().status)
        connection.close()
        seconds.append(time.perf_counter() - began)
    return seconds, statuses


def show(name, seconds):
    p50, p99 = np.percentile(seconds, [50, 99]) * 1e3
    print(f"{name}: p50 {p50:.1f} ms, p99 {p99:.1f} ms, longest {max(seconds) * 1e3:.1f} ms")  # noqa: T201


def test_of_2_000_events_none_is_lost_and_a_burst_makes_one_call(server, project):
    webhook, began = webhook_of(project), time.monotonic()
    show("one annotator", post(webhook, 400)[0])
    share = (EVENTS - 400) // THREADS
    with ThreadPoolExecutor(THREADS) as pool:
        sent = list(pool.map(lambda _: post(webhook, share), range(THREADS)))
    show(f"{THREADS} annotators at once", [second for seconds, _ in sent for second in seconds])
    assert {status for _, statuses in sent for status in statuses} == {204}
    server.terminate()  # what waits for its minute makes a call before the end
    server.wait(30)
    calls = calls_made(project)
    assert sum(calls) == EVENTS
    assert len(calls) <= 1 + int(time.monotonic() - began) // 60
