"""A project whose own folders and modules have the names of ours: our programs run all the same."""

import subprocess
import sys
from pathlib import Path

import pytest
from asking import get, post, wait_for

from flywheel import stack
from flywheel.cli.scheduling import unregister
from flywheel.cli.starter import write_starter
from flywheel.project import load_project

pytestmark = pytest.mark.integration

FOLDERS = ("flows", "deployments", "flywheel", "prefect")
MODULES = ("logging.py", "alembic.py", "flows/nightly.py", "prefect/engine.py")
SETTINGS = """
[project]
name = "namesake"
task = "my_task:task"
[serve]
port = {port}
[labeling]
url = "{label_studio}"
[train]
steps = 1
device = "cpu"
[prefect]
url = "{prefect}"
"""


@pytest.fixture
def project(tmp_path, prefect_server, label_studio, free_url, monkeypatch):
    """It is scheduled, and its servers run in its folder; what it has of our names fails at once."""
    monkeypatch.setenv("LABEL_STUDIO_API_KEY", label_studio.token)
    monkeypatch.setenv("PREFECT_WORKER_QUERY_SECONDS", "2")  # else it looks every ten
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    directory = tmp_path / "project"
    write_starter(directory)
    places = {"label_studio": label_studio.url, "prefect": prefect_server}
    settings = SETTINGS.format(port=free_url().rpartition(":")[2], **places)
    (directory / "flywheel.toml").write_text(settings)
    for folder in FOLDERS:
        (directory / folder).mkdir()
    for module in (*MODULES, *(f"{folder}/__init__.py" for folder in FOLDERS)):
        (directory / module).write_text('raise SystemExit("the project\'s own was loaded")\n')
    (directory / "sibling.py").write_text("")
    task = directory / "my_task.py"
    task.write_text(task.read_text().replace("import torch\n", "import sibling\nimport torch\n", 1))
    project = load_project(directory)
    try:
        stack.up(project, ["model-server"])
        flywheel("schedule", directory)
        yield project
    finally:
        unregister(project, progress=print)
        stack.down(project)


def flywheel(command, directory):
    """The console script, run in the project's folder."""
    program = Path(sys.executable).with_name("flywheel")
    done = subprocess.run(
        [program, command], cwd=directory, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def ended(project, run_id):
    run = get(f"{project.prefect.url}/api/flow_runs/{run_id}")
    return run if run["state_type"] in {"COMPLETED", "FAILED", "CRASHED"} else None


def test_a_night_by_the_worker_and_one_by_hand_run_our_flows_and_the_projects_task(project):
    assert "import sibling" in (project.directory / "my_task.py").read_text()
    api = f"{project.prefect.url}/api"
    deployment = get(f"{api}/deployments/name/nightly/namesake-nightly")
    begun = post(f"{api}/deployments/{deployment['id']}/create_flow_run", {})["id"]
    run = wait_for(lambda: ended(project, begun))
    assert run["state_type"] == "COMPLETED", run["state"]
    assert "release" in flywheel("night", project.directory)
