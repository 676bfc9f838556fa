"""Small real programs to start and stop, and a project to do it for."""

import os
import socket
import sys
from collections.abc import Callable

import pytest

from flywheel.project import Project
from flywheel.settings.operations import Identity
from flywheel.stack.process import Service
from flywheel.stack.supervise import stop_all


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.fixture
def state(tmp_path):
    """A project's state folder; what was started from it is ended with the test."""
    folder = tmp_path / "state"
    yield folder
    stop_all(folder, print)


@pytest.fixture
def program(state) -> Callable[..., Service]:
    """Makes a service out of a line of Python; without a port it is ready once it prints 'up'."""

    def make(name: str, code: str, **changes: object) -> Service:
        settings = {"directory": state, "ready_line": "up", "env": dict(os.environ), **changes}
        return Service(name=name, argv=(sys.executable, "-u", "-c", code), **settings)

    return make


@pytest.fixture
def web(state) -> Callable[..., Service]:
    """Makes a service out of Python's own web server, on a free port."""

    def make(name: str = "web", port: int = 0, **changes: object) -> Service:
        number = str(port or free_port())
        argv = (sys.executable, "-m", "http.server", number, "--bind", "127.0.0.1")
        settings = {"url": f"http://127.0.0.1:{number}", "env": dict(os.environ), **changes}
        return Service(
            name=name, argv=argv, directory=state, setting="[serve] port", health="/", **settings
        )

    return make


@pytest.fixture
def project(tmp_path) -> Project:
    return Project(directory=tmp_path, project=Identity(name="toy", task="toy:task"))
