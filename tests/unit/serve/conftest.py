import asyncio
import os
import socket
import struct
import threading
import time
from contextlib import ExitStack, closing, contextmanager
from datetime import UTC, datetime
from pathlib import Path

import httpx
import pytest
import torch
import uvicorn
from sqlalchemy import insert

from flywheel.blobs import Blobs
from flywheel.ledger import Ledger
from flywheel.ledger.segments import log_folder, take_in
from flywheel.ledger.serving_tables import checkpoints, releases
from flywheel.model import weights_of
from flywheel.project import load_project
from flywheel.serve import command_token
from flywheel.serve.app import create_app
from flywheel.task import load_task

TOYS = Path(__file__).parents[2] / "toys"
SETTINGS = """
[project]
name = "pairs"
task = "pair_task:task"
[serve]
max_payload_bytes = 1000
[collect]
hard_samples = 3
[dataset]
group = "session"
[train]
device = "cpu"
"""
NOW = datetime(2026, 1, 1, tzinfo=UTC)


def pair(value, confidence=0.9):
    return struct.pack("<2f", value, confidence)


@pytest.fixture(autouse=True)
def no_token(monkeypatch):
    monkeypatch.delenv("FLYWHEEL_SERVER_TOKEN", raising=False)


@pytest.fixture
def project(tmp_path):
    (tmp_path / "flywheel.toml").write_text(SETTINGS)
    return load_project(tmp_path)


@pytest.fixture
def task():
    return load_task("pair_task:task", TOYS)


class CurrentLedger(Ledger):
    """Takes in what the server has stored before it is read, as every command does."""

    folder = None

    @contextmanager
    def read(self):
        if self.folder is not None:
            take_in(self, self.folder)
        with super().read() as connection:
            yield connection


@pytest.fixture
def ledger(project):
    with closing(CurrentLedger.open(project.ledger_url)) as ledger:
        ledger.folder = log_folder(project)
        yield ledger


@pytest.fixture
def servers_ledger(project):
    with closing(Ledger.open(project.ledger_url)) as ledger:
        yield ledger


@pytest.fixture
def blobs(project):
    return Blobs.open(project.blobs_url)


@pytest.fixture
def weights(task, blobs):
    """bias -> digest of stored weights."""

    def store(bias):
        network = task.model()
        with torch.no_grad():
            network.bias.fill_(bias)
        return blobs.put(weights_of(network))

    return store


@pytest.fixture
def release(ledger, weights):
    """bias -> digest, released; a threshold may be given."""

    def point(bias, number=1, threshold=None):
        digest = weights(bias)
        with ledger.begin() as connection:
            row = {"digest": digest, "record": {}, "created_at": NOW}
            connection.execute(insert(checkpoints), row)
            row = {"number": number, "checkpoint_digest": digest, "previous_digest": None}
            row |= {"reason": "test", "threshold": threshold, "created_at": NOW}
            connection.execute(insert(releases), row)
        return digest

    return point


class Server(uvicorn.Server):
    """Ends when it is asked to, where uvicorn looks every tenth of a second whether it should."""

    async def main_loop(self):
        await self.on_tick(0)  # the date that every answer has
        self._loop, self._end = asyncio.get_running_loop(), asyncio.Event()
        await self._end.wait()

    def end(self):
        self._loop.call_soon_threadsafe(self._end.set)


@contextmanager
def running(app, http="auto"):
    """A client of the app, over real HTTP."""
    listener = socket.create_server(("127.0.0.1", 0))
    server = Server(uvicorn.Config(app, log_level="critical", lifespan="on", http=http))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
    thread.start()
    while not hasattr(server, "_end"):
        assert thread.is_alive()
        time.sleep(0.002)
    url = f"http://127.0.0.1:{listener.getsockname()[1]}"
    try:
        with httpx.Client(base_url=url, timeout=30) as client:
            yield client
    finally:
        server.end()
        thread.join()
        listener.close()


@pytest.fixture
def serve(project, task, servers_ledger, blobs):
    """Options of create_app -> a client of the running app that has the token of this machine."""
    with ExitStack() as stack:

        def start(settings=project, http="auto", **options):
            app = create_app(settings, task, servers_ledger, blobs, **options)
            client = stack.enter_context(running(app, http))
            if "FLYWHEEL_SERVER_TOKEN" not in os.environ:  # a test of it sends it by itself
                client.headers["Authorization"] = f"Bearer {command_token(settings)}"
            return client

        yield start


@pytest.fixture
def server(release, serve):
    """A client of a server whose model adds 0."""
    release(0.0)
    return serve()


@pytest.fixture
def pairs():
    return pair


@pytest.fixture
def predict():
    """Send one pair."""

    def send(client, value, confidence=0.9, **headers):
        headers = {"Content-Type": "application/x-pair", **headers}
        return client.post("/predict", content=pair(value, confidence), headers=headers)

    return send
