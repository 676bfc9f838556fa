"""What a stopped or killed worker leaves behind on a real Prefect server."""

import json
import os
import signal
import subprocess
import sys
import time

import httpx
import pytest

from flywheel import stack
from flywheel.project import Identity, Project
from flywheel.project import Prefect as PrefectSettings

pytestmark = pytest.mark.integration

FLOW = "import time\nfrom prefect import flow\n\n@flow\ndef sleeper():\n    time.sleep(300)\n"
DEPLOY = (
    "from prefect import flow\n"
    "made = flow.from_source(source='.', entrypoint='sleeper.py:sleeper')\n"
    "made.deploy('test', work_pool_name='nights', print_next_steps=False)"
)


@pytest.fixture(scope="module")
def project(tmp_path_factory, free_url):
    made = Project(
        directory=tmp_path_factory.mktemp("project"),
        project=Identity(name="toy", task="toy:task"),
        prefect=PrefectSettings(url=free_url()),
    )
    (made.directory / "sleeper.py").write_text(FLOW)
    yield made
    stack.down(made)


@pytest.fixture
def run_id(project):
    """A flow run that the worker has begun."""
    stack.up(project, ["prefect", "worker"], pool="nights")
    env = {**os.environ, **stack.environment(project)}
    command = [sys.executable, "-c", DEPLOY]
    subprocess.run(command, cwd=project.directory, env=env, check=True, capture_output=True)
    with api(project) as client:
        deployment = client.get("/deployments/name/sleeper/test").json()["id"]
        made = client.post(f"/deployments/{deployment}/create_flow_run", json={}).json()["id"]
    wait_for(project, made, "RUNNING")
    return made


def api(project):
    return httpx.Client(base_url=f"{project.prefect.url}/api", timeout=30)


def wait_for(project, run_id, state, seconds=60):
    end = time.monotonic() + seconds
    with api(project) as client:
        while client.get(f"/flow_runs/{run_id}").json()["state_type"] != state:
            assert time.monotonic() < end, f"no {state} in {seconds} s"
            time.sleep(0.2)


def test_after_down_no_run_stays_running(project, run_id):
    assert stack.down(project) == ["prefect", "worker"]
    stack.up(project, ["prefect"])
    wait_for(project, run_id, "CRASHED", seconds=1)


def test_after_worker_and_server_were_killed_up_closes_their_runs(project, run_id):
    for server in stack.running(project):
        os.killpg(server.pid, signal.SIGKILL)
        while server.process() is not None:
            time.sleep(0.02)
    told = []
    stack.up(project, ["prefect", "worker"], pool="nights", progress=told.append)
    wait_for(project, run_id, "CRASHED", seconds=1)
    assert [line for line in told if "marked as crashed" in line], json.dumps(told)
