"""A night whose training and scoring go to the GPU pool, with a real worker there."""

from __future__ import annotations

import pytest
from asking import post

from flows.gpu_step import gpu_step
from flows.nightly import nightly
from flywheel import stack
from flywheel.cli.scheduling import register, unregister
from flywheel.cli.starter import write_starter
from flywheel.ledger.nights import finished_steps
from flywheel.ledger.releases import release_history
from flywheel.loop import open_loop
from flywheel.project import load_project

pytestmark = pytest.mark.integration

SETTINGS = """
[project]
name = "pooled"
task = "my_task:task"
[serve]
port = {port}
[labeling]
url = "{nobody}"
[workers]
gpu_pool = "flywheel-pooled-gpu"
[train]
steps = 5
device = "cpu"
[prefect]
url = "{prefect}"
"""


@pytest.fixture(scope="module")
def project(tmp_path_factory, prefect_server, free_url):
    """Scheduled, with its model server; only the pool's worker is left, the test runs the night."""
    directory = tmp_path_factory.mktemp("pooled") / "project"
    write_starter(directory)
    places = {
        "port": free_url().rpartition(":")[2],
        "nobody": free_url(),
        "prefect": prefect_server,
    }
    (directory / "flywheel.toml").write_text(SETTINGS.format(**places))
    project = load_project(directory)
    with pytest.MonkeyPatch.context() as env:
        env.setenv("LABEL_STUDIO_API_KEY", "nobody asks for it")
        env.setenv("OMP_NUM_THREADS", "1")
        env.setenv("PREFECT_WORKER_QUERY_SECONDS", "1")  # else it looks every ten
        env.setenv("PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL", "CRITICAL")
        stack.up(project, ["model-server"])
        register(project, progress=print)
        stack.down(project, only="worker")
        yield project
        unregister(project, progress=print)
        stack.down(project)


@pytest.fixture(scope="module")
def state(project):
    return nightly(project.directory, return_state=True)


def runs_of_the_pool(project):
    chosen = {"work_pools": {"name": {"any_": ["flywheel-pooled-gpu"]}}, "sort": "START_TIME_ASC"}
    return post(f"{project.prefect.url}/api/flow_runs/filter", chosen)


def test_the_night_ends_as_if_it_had_done_all_by_itself(project, state):
    assert state.name == "PROMOTE"
    with open_loop(project.directory) as loop, loop.ledger.read() as connection:
        assert len(finished_steps(connection, 1)) == 8
        assert len(release_history(connection)) == 1


def test_training_and_scoring_were_runs_of_the_pool_and_nothing_else_was(project, state):
    ended = [(run["name"], run["state_name"]) for run in runs_of_the_pool(project)]
    assert ended == [
        ("pooled retrain of night 1", "Completed"),
        ("pooled evaluate of night 1", "Completed"),
    ]


def test_a_run_for_a_night_that_is_over_has_nothing_to_do(project, state):

    late = gpu_step(project.directory, 1, "retrain", return_state=True)
    assert (late.name, late.message) == (
        "Skipped",
        "night 1 is not open, so no run waits for its 'retrain'",
    )
