"""What a stopped or killed worker leaves behind on a real Prefect server."""

import json
import os
import subprocess
import sys
import time

import httpx
import psutil
import pytest

from flows.registration.dead_runs import close_dead_runs
from flywheel import stack
from flywheel.cli.scheduling import stop
from flywheel.project import Project
from flywheel.settings.operations import Identity
from flywheel.settings.operations import Prefect as PrefectSettings

pytestmark = pytest.mark.integration

FLOW = "import time\nfrom prefect import flow\n\n@flow\ndef sleeper():\n    time.sleep(300)\n"
DEPLOY = (
    "from prefect import flow\n"
    "made = flow.from_source(source='.', entrypoint='sleeper.py:sleeper')\n"
    "made.deploy('test', work_pool_name='nights', print_next_steps=False)"
)


@pytest.fixture(scope="module")
def project(tmp_path_factory, free_url):
    """Not the session's shared server, even when another module has asked for that."""
    made = Project(
        directory=tmp_path_factory.mktemp("project"),
        project=Identity(name="toy", task="toy:task"),
        prefect=PrefectSettings(url=free_url()),
    )
    (made.directory / "sleeper.py").write_text(FLOW)
    with pytest.MonkeyPatch.context() as environment:
        environment.delenv("PREFECT_API_URL", raising=False)
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


def process_of(project, run_id):
    with api(project) as client:
        while (pid := client.get(f"/flow_runs/{run_id}").json()["infrastructure_pid"]) is None:
            time.sleep(0.2)
    return psutil.Process(int(pid))


def has_ended(process):
    """Gone, or waiting for the process that adopted it to notice."""
    try:
        return not process.is_running() or process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def kill(*processes):
    for process in processes:
        process.kill()
    psutil.wait_procs(processes, timeout=10)


def test_down_ends_the_runs_of_the_worker_and_none_stays_running(project, run_id):
    run = process_of(project, run_id)
    assert stop(project, progress=print) == ["prefect", "worker"]
    assert has_ended(run)
    stack.up(project, ["prefect"])
    wait_for(project, run_id, "CRASHED", seconds=1)


def test_after_the_whole_machine_died_up_closes_its_runs(project, run_id):
    run = process_of(project, run_id)
    kill(run, *(server.process() for server in stack.running(project)))
    reported = []
    stack.up(project, ["prefect"])
    close_dead_runs(project, reported.append)
    wait_for(project, run_id, "CRASHED", seconds=1)
    assert [line for line in reported if "marked as crashed" in line], json.dumps(reported)


def test_a_run_outlives_its_killed_worker_until_down(project, run_id):
    run = process_of(project, run_id)
    kill(*(s.process() for s in stack.running(project) if s.name == "worker"))
    stack.up(project, ["prefect", "worker"], pool="nights")
    assert run.is_running()
    stack.down(project)
    assert has_ended(run)
