"""The deploy step before anything is released: whose server is it that answers there?"""

import json
import socket
import threading
from contextlib import closing
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from flywheel.blobs import Blobs
from flywheel.errors import RefusedError
from flywheel.ledger import Ledger
from flywheel.ledger.engine import project_id
from flywheel.loop.context import Loop, NightRun
from flywheel.loop.gather import deploy
from flywheel.project import load_project
from flywheel.task import load_task

TOYS = Path(__file__).parents[2] / "toys"
NOW = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.fixture(autouse=True)
def no_token(monkeypatch):
    monkeypatch.delenv("FLYWHEEL_SERVER_TOKEN", raising=False)


@pytest.fixture
def first_night(tmp_path):
    """port -> the first night of a project whose model server is there."""
    with closing(Ledger.open(f"sqlite:///{tmp_path}/ledger.db")) as ledger:

        def begin(port):
            section = '[project]\nname = "mine"\ntask = "pair_task:task"\n'
            (tmp_path / "flywheel.toml").write_text(f"{section}[serve]\nport = {port}\n")
            loop = Loop(
                project=load_project(tmp_path),
                task=load_task("pair_task:task", TOYS),
                ledger=ledger,
                blobs=Blobs.open(str(tmp_path / "blobs")),
                now=lambda: NOW,
            )
            return NightRun(loop=loop, number=0, started_at=NOW)

        yield begin


@pytest.fixture
def own_id(first_night):
    with first_night(9).loop.ledger.read() as connection:
        return project_id(connection)


@pytest.fixture
def server_of():
    """project, id -> port of a server that says it is that project's, without a model."""
    servers = []

    def start(project, number=None):
        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                self.send_response(200)
                self.end_headers()
                said = {"project": project, "id": number, "digest": None}
                self.wfile.write(json.dumps(said).encode())

            def log_message(self, *_):
                pass

        servers.append(HTTPServer(("127.0.0.1", 0), Handler))
        threading.Thread(target=servers[-1].serve_forever, args=(0.01,), daemon=True).start()
        return servers[-1].server_port

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


def test_a_first_night_refuses_another_projects_server_before_it_trains(first_night, server_of):
    """It trained for minutes, and then a sample was not in the ledger of the other."""
    with pytest.raises(RefusedError, match=r"serves project 'digits', not 'mine'\. Start yours"):
        deploy(first_night(server_of("digits")))


def test_a_project_of_the_same_name_is_another_one_by_its_id(first_night, server_of, own_id):
    with pytest.raises(RefusedError, match=rf"called 'mine' too: its id is 0a, .* is {own_id}"):
        deploy(first_night(server_of("mine", "0a")))


def test_a_first_night_notes_that_its_own_server_waits_for_a_model(first_night, server_of, own_id):
    done = deploy(first_night(server_of("mine", own_id)))
    assert (done.released_digest, done.serving_digest) == (None, None)
    assert done.note == "nothing is released yet; this night trains the first model"


def test_a_first_night_notes_a_server_that_does_not_answer(first_night):
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    assert "does not answer" in deploy(first_night(port)).note


def test_a_program_that_is_no_model_server_is_reported(first_night, server_of):
    with pytest.raises(
        RefusedError, match=r"does not report the project it serves.*\[serve\] port"
    ):
        deploy(first_night(server_of(None)))
