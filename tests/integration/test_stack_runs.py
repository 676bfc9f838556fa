"""What a stopped or killed worker leaves behind on a real Prefect server."""

import json
import os
import time
from contextlib import contextmanager

import httpx
import psutil
import pytest
from asking import signed_in
from prefect.client.orchestration import get_client
from prefect.settings import PREFECT_API_AUTH_STRING, PREFECT_API_URL, temporary_settings

from flows.registration.pools import make_pools
from flows.registration.server import close_dead_runs
from flywheel import stack
from flywheel.cli.scheduling import stop
from flywheel.project import Project
from flywheel.settings.operations import Identity
from flywheel.settings.operations import Prefect as PrefectSettings

pytestmark = pytest.mark.integration

TASK = "import time\n\ndef task():\n    time.sleep(300)\n"
SETTINGS = '[project]\nname = "toy"\ntask = "sleeper:task"\n'
DEPLOYMENT = {
    "name": "test",
    "entrypoint": "flows.nightly.nightly",
    "work_pool_name": "nights",
}


@pytest.fixture(scope="module")
def project(tmp_path_factory, free_url):
    """Not the session's shared server, even when another module has asked for that."""
    made = Project(
        directory=tmp_path_factory.mktemp("project"),
        project=Identity(name="toy", task="toy:task"),
        prefect=PrefectSettings(url=free_url()),
    )
    (made.directory / "sleeper.py").write_text(TASK)
    (made.directory / "flywheel.toml").write_text(SETTINGS)
    with pytest.MonkeyPatch.context() as environment:
        environment.delenv("PREFECT_API_URL", raising=False)
        environment.setenv("PREFECT_API_AUTH_STRING", "flywheel:password-of-this-module")
        yield made
        stack.down(made)


@pytest.fixture
def run_id(project):
    """A flow run that the worker has begun."""
    stack.up(project, ["prefect", "worker"], pool="nights")
    with api(project) as client:
        flow = create(client, "/flows/", {"name": "nightly"})
        given = {"flow_id": flow, "parameters": {"directory": str(project.directory)}}
        deployment = create(client, "/deployments/", {**DEPLOYMENT, **given})
        made = create(client, f"/deployments/{deployment}/create_flow_run", {})
    wait_for(project, made, "RUNNING")
    return made


HOSTILE = {
    "another folder": ({}, {"parameters": {"directory": "{evil}"}}),
    "an entrypoint in a file": ({"entrypoint": "evil.py:task", "path": "{evil}"}, {}),
    "a script before the flow": (
        {"pull_steps": [{"prefect.deployments.steps.run_shell_script": {"script": "{touch}"}}]},
        {},
    ),
    "a command": ({}, {"job_variables": {"command": "{touch}"}}),
    "an environment": ({}, {"job_variables": {"env": {"PYTHONSTARTUP": "{evil}/evil.py"}}}),
}
"""what an operator with the password might ask for: changes of the deployment, and of the run"""


def test_the_worker_runs_no_program_that_is_not_ours(project, tmp_path, monkeypatch):
    """A deployment's command, or a task in a folder of their own, ran as the worker's user."""
    monkeypatch.setenv("PREFECT_WORKER_QUERY_SECONDS", "1")
    owned, settings = tmp_path / "owned", SETTINGS.replace("sleeper", "evil")
    (tmp_path / "evil.py").write_text(f"open({str(owned)!r}, 'w')\n")
    (tmp_path / "flywheel.toml").write_text(settings)
    stack.up(project, ["prefect"])
    with project_in_its_own_pool(project), api(project) as client:
        made = {name: hostile_run(client, project, name, tmp_path, owned) for name in HOSTILE}
        ended = {name: end_of(project, run) for name, run in made.items() if run is not None}
    assert not owned.exists()
    assert {name for name, run in made.items() if run is None} == {"a command", "an environment"}
    assert {name: state["type"] for name, state in ended.items()} == dict.fromkeys(ended, "CRASHED")
    assert all("RefusedError" in state["message"] for state in ended.values())


@contextmanager
def project_in_its_own_pool(project):
    """The project's pool, as flywheel schedule makes it, and its worker."""
    known = {PREFECT_API_URL: f"{project.prefect.url}/api"}
    known[PREFECT_API_AUTH_STRING] = os.environ["PREFECT_API_AUTH_STRING"]
    with temporary_settings(known), get_client(sync_client=True) as client:
        make_pools(client, project)
    stack.down(project, only="worker")
    stack.up(project, ["worker"])
    yield
    stack.down(project, only="worker")


def hostile_run(client, project, name, evil, owned):
    """Its id; None: Prefect's server refuses it."""
    text = json.dumps(HOSTILE[name]).replace("{evil}", str(evil))
    changed, wanted = json.loads(text.replace("{touch}", f"touch {owned}"))
    flow = create(client, "/flows/", {"name": "nightly"})
    own = {"flow_id": flow, "parameters": {"directory": str(project.directory)}}
    pool = {"name": name, "work_pool_name": "flywheel-toy"}
    deployment = create(client, "/deployments/", DEPLOYMENT | pool | own | changed)
    return create(client, f"/deployments/{deployment}/create_flow_run", wanted)


def create(client, path, body, seconds=60):
    """The id of what was made; None: it is refused. 503: the server's SQLite was locked."""
    end = time.monotonic() + seconds
    while (made := client.post(path, json=body)).status_code == 503:
        assert time.monotonic() < end, made.text
        time.sleep(0.5)
    return None if made.status_code == 422 else made.raise_for_status().json()["id"]


def end_of(project, run_id, seconds=120):
    end = time.monotonic() + seconds
    with api(project) as client:
        while True:
            state = client.get(f"/flow_runs/{run_id}").json()["state"]
            if state["type"] in {"COMPLETED", "FAILED", "CRASHED", "CANCELLED"}:
                return state
            assert time.monotonic() < end, state
            time.sleep(0.2)


def api(project):
    url = f"{project.prefect.url}/api"
    return httpx.Client(base_url=url, headers=signed_in(url), timeout=30)


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
