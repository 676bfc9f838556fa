import os
import subprocess
from datetime import UTC, datetime, timedelta
from uuid import uuid4

import pytest
from prefect.client.schemas.objects import FlowRun

from flows.registration.server import _is_dead, close_dead_runs
from flywheel.project import Project
from flywheel.settings.operations import Prefect


@pytest.fixture
def ended_pid():
    with subprocess.Popen(["true"]) as child:
        child.wait()
    return child.pid


def run(pid, start_time=None):
    return FlowRun(flow_id=uuid4(), infrastructure_pid=pid, start_time=start_time)


def test_a_run_whose_process_has_ended_is_dead(ended_pid):
    assert _is_dead(run(str(ended_pid)))


def test_a_run_whose_process_lives_is_not(ended_pid):
    assert not _is_dead(run(str(os.getpid())))
    assert not _is_dead(run(str(os.getpid()), datetime.now(UTC)))


def test_a_number_that_passed_to_a_younger_process_is_dead():
    yesterday = datetime.now(UTC) - timedelta(days=1)
    assert _is_dead(run(str(os.getpid()), yesterday))


@pytest.mark.parametrize("pid", [None, "", "namespace:job-7", "container-4f2a"])
def test_a_run_of_another_kind_of_worker_is_left_alone(pid):
    assert not _is_dead(run(pid))


@pytest.mark.parametrize(
    ("url", "lines"), [("http://127.0.0.1:9", 1), ("http://prefect.invalid:4200", 0)]
)
def test_a_server_that_does_not_answer_stops_nothing_and_one_elsewhere_is_not_asked(
    tmp_path, url, lines
):
    reported = []
    identity = {"name": "toy", "task": "toy:task"}
    project = Project(directory=tmp_path, project=identity, prefect=Prefect(url=url))
    assert close_dead_runs(project, reported.append) == []
    assert ["were not looked at" in line for line in reported] == [True] * lines
