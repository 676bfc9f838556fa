"""Scoring over two processes of a real Dask cluster: the numbers of one process, to the last bit."""

from __future__ import annotations

import shutil
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path

import httpx
import numpy as np
import psutil
import pytest
from distributed import Client
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import FlowFilter, FlowRunFilter
from prefect.client.schemas.sorting import FlowRunSort

from flows.evaluate import evaluate
from flows.helpers.spread import _DaskSpread
from flywheel.evaluate import scoring, unpack_book
from flywheel.ledger.history import reports_of
from flywheel.loop import begin_night, open_loop, steps
from flywheel.project import load_project
from flywheel.settings.operations import Workers

pytestmark = pytest.mark.integration

TOY = Path(__file__).parents[2] / "toys" / "corner_task.py"
SETTINGS = """
[project]
name = "wide"
task = "corner_task:task"
[serve]
port = {port}
[labeling]
url = "{nobody}"
[train]
steps = 5
device = "cpu"
cpu_threads = 1
[prefect]
url = "{prefect}"
"""
STEPS = (steps.DEPLOY, steps.COLLECT, steps.ROUTE, steps.INGEST, steps.RETRAIN)


@pytest.fixture
def directory(tmp_path, prefect_server, free_url, monkeypatch):
    """A project whose night has trained and not yet measured, with pieces of a few rows."""
    monkeypatch.setenv("LABEL_STUDIO_API_KEY", "nobody asks for it")
    monkeypatch.setattr(scoring, "_PIECE", 5)
    folder = tmp_path / "wide"
    folder.mkdir()
    shutil.copy(TOY, folder)
    port = free_url().rpartition(":")[2]
    text = SETTINGS.format(port=port, nobody=free_url(), prefect=prefect_server)
    (folder / "flywheel.toml").write_text(text)
    with open_loop(folder) as loop, begin_night(loop) as under_way:
        for step in STEPS:
            under_way.do(step)
    return folder


def measured(folder):
    """The scores of a night that the evaluate flow measures; latency is another one each time."""
    evaluate(folder, return_state=True)
    with open_loop(folder) as loop:
        with loop.ledger.read() as connection:
            [report] = reports_of(connection, [1])
        book, _ = unpack_book(loop.blobs.get(report.scores_digest), report.scores_digest)
    del book["latency"]
    return report, book


def first_scoring():
    """Parameters of the first run of the flow that scores, and the names of its tasks."""
    with get_client(sync_client=True) as client:
        wanted = FlowFilter(name={"any_": ["score"]})
        runs = client.read_flow_runs(flow_filter=wanted, sort=FlowRunSort.START_TIME_DESC)
        first = FlowRunFilter(id={"any_": [runs[-1].id]})
        tasks = client.read_task_runs(flow_run_filter=first)
    return runs[-1].parameters, sorted(run.name for run in tasks)


def test_two_processes_measure_what_one_does(directory, tmp_path):
    two = tmp_path / "two"
    shutil.copytree(directory, two)
    with (two / "flywheel.toml").open("a") as settings:
        settings.write("[workers]\nprocesses = 2\n")
    (report, book), (other_report, other) = measured(directory), measured(two)
    assert report.start_entries == other_report.start_entries
    assert book.keys() == other.keys()
    assert book["start"].scores.keys() >= {"candidate", "always upper"}
    for name, part in book.items():
        assert part.ids == other[name].ids
        for entrant, table in part.scores.items():
            for score, values in table.items():
                np.testing.assert_array_equal(values, other[name].scores[entrant][score])
    # Prefect's server is reported of the pieces, and of no label.
    assert first_scoring() == ({"pieces": 5}, [f"score {number}" for number in range(1, 6)])


def listening():
    """The ports on which this process and its children listen."""
    family = [psutil.Process(), *psutil.Process().children(recursive=True)]
    return {
        connection.laddr.port
        for process in family
        for connection in process.net_connections("tcp")
        if connection.status == "LISTEN"
    }


PAGES = ("/health", "/metrics", "/info/main/workers.html", "/json/counts.json")


def read_at(port, path):
    """The status that a page of Dask has for everyone; None: what listens there has no pages."""
    try:
        return httpx.get(f"http://127.0.0.1:{port}{path}", timeout=3).status_code
    except httpx.TransportError:
        return None


def test_no_other_program_reaches_the_processes_that_score(directory):
    """Another user's `Client(address).submit(os.getuid)` ran as the owner of the night."""
    project = load_project(directory)
    two = project.model_copy(update={"workers": Workers(processes=2)})
    before = listening()
    with ExitStack() as closing:
        spread = _DaskSpread(project=two, closing=closing)
        address = spread._start()
        for plain in (address, address.replace("tls://", "tcp://")):
            with pytest.raises((OSError, TypeError, ValueError)):
                Client(plain, timeout=3)
        opened = listening() - before
        assert len(opened) >= 3  # the scheduler, and two workers
        assert {read_at(port, path) for port in opened for path in PAGES} <= {None, 404}
        with Client(address, security=spread.security) as own:
            assert own.submit(int, "7").result() == 7


def test_one_process_knows_nothing_of_dask():
    script = (
        "import sys, flows.nightly, flows.gpu_step;"
        "print([name for name in ('dask', 'distributed', 'prefect_dask') if name in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], check=True, capture_output=True, text=True
    )
    assert done.stdout.strip() == "[]"
