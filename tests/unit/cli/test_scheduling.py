import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from flywheel.cli.scheduling import register, resume, unregister
from flywheel.errors import RefusedError, UnavailableError
from flywheel.project import Project
from flywheel.settings.operations import Prefect


@pytest.fixture
def project(tmp_path, monkeypatch):
    """Its Prefect is not there: nobody listens on port 1."""
    url = "http://127.0.0.1:1"
    monkeypatch.setenv("PREFECT_API_URL", f"{url}/api")
    monkeypatch.setenv("PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL", "CRITICAL")
    identity = {"name": "toy", "task": "toy:task"}
    return Project(directory=tmp_path, project=identity, prefect=Prefect(url=url))


@pytest.mark.parametrize("command", [register, unregister, resume])
def test_without_prefect_nothing_is_begun_and_the_next_step_is_named(project, command):
    with pytest.raises(UnavailableError, match=r"127\.0\.0\.1:1/api .* Start it with flywheel up"):
        command(project, progress=print)
    assert not (project.state / "stack.json").exists()


@pytest.fixture
def locked(monkeypatch):
    """The address of a Prefect server that knows another password."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200 if self.path.endswith("/health") else 401)
            self.end_headers()

        def log_message(self, *_):
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}"
        monkeypatch.setenv("PREFECT_API_URL", f"{url}/api")
        monkeypatch.setenv("PREFECT_API_AUTH_STRING", "me:not this one")
        yield url
        server.shutdown()


@pytest.mark.parametrize("command", [register, unregister, resume])
def test_another_password_is_refused_in_words_before_anything_is_begun(project, locked, command):
    with pytest.raises(RefusedError, match="refuses the password of PREFECT_API_AUTH_STRING"):
        command(project, progress=print)
