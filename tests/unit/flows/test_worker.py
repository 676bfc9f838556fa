"""What the worker of a project starts, and with what."""

import os
import uuid
from pathlib import Path
from types import SimpleNamespace

import pytest
from prefect.client.schemas.objects import FlowRun

from flows.helpers.worker import PinnedConfiguration, refusal

HERE = Path("/projects/digits")
OURS = {"entrypoint": "flows.nightly.nightly", "pull_steps": []}
SCRIPT = [{"prefect.deployments.steps.run_shell_script": {"script": "id"}}]


def run(directory="/projects/digits"):
    return FlowRun(flow_id=uuid.uuid4(), name="night", parameters={"directory": directory})


@pytest.mark.parametrize("pull_steps", [None, []])
def test_a_run_of_our_own_is_started(pull_steps):
    ours = SimpleNamespace(**OURS | {"pull_steps": pull_steps})
    assert refusal(run(), ours, HERE) is None


@pytest.mark.parametrize(
    ("changed", "directory", "why"),
    [
        ({"entrypoint": "evil.py:flow"}, str(HERE), "the entrypoint 'evil.py:flow' is none"),
        ({"entrypoint": None}, str(HERE), "the entrypoint None is none"),
        ({"pull_steps": SCRIPT}, str(HERE), "pull steps = "),
        ({}, "/evil", "directory = '/evil' is not the project of this worker"),
        ({}, "/projects/digits/../../evil", "is not the project of this worker"),
        ({}, None, "directory = None is not"),
    ],
)
def test_any_other_run_is_not(changed, directory, why):
    said = refusal(run(directory), SimpleNamespace(**OURS | changed), HERE)
    assert why in said
    assert "flywheel schedule /projects/digits" in said


def test_nor_is_a_run_without_a_deployment():
    assert "is of no deployment" in refusal(run(), None, HERE)


def test_what_job_variables_say_is_not_read():
    job = PinnedConfiguration(command="id", env={"PYTHONPATH": "/evil"}, working_dir="/")
    job.prepare_for_flow_run(run())
    assert job.command.endswith("-m prefect.engine")
    assert (job.working_dir, job.env.get("PYTHONPATH")) == (None, os.environ.get("PYTHONPATH"))
    assert job.env["PREFECT_FLOWS_HEARTBEAT_FREQUENCY"] == "30"
