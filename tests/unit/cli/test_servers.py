"""Which servers nobody listens for."""

import socket

import pytest

from flywheel.cli.running import silent_servers


@pytest.fixture
def listening():
    """The address of a port where somebody listens."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"http://127.0.0.1:{server.getsockname()[1]}"


def _with(project, prefect, labeling):
    changed = {
        "prefect": project.prefect.model_copy(update={"url": prefect}),
        "labeling": project.labeling.model_copy(update={"url": labeling}),
    }
    return project.model_copy(update=changed)


def test_a_server_on_this_machine_where_nobody_listens_is_named(letters, listening):
    project = _with(letters.project, listening, "http://127.0.0.1:9")
    assert "label-studio" in silent_servers(project)
    assert "prefect" not in silent_servers(project)


def test_a_server_elsewhere_is_not_asked(letters, listening):
    project = _with(letters.project, listening, "http://label-studio.invalid:8080")
    assert "label-studio" not in silent_servers(project)
