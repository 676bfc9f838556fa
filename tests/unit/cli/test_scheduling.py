import pytest

from flywheel.cli.scheduling import register, resume, unregister
from flywheel.errors import UnavailableError
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
