"""Faults of the machine and of its servers: the next night ends right, and nothing is doubled.

Each fault meets a project of its own whose first night trains long enough to be hit in the middle.
That a killed process doubles nothing is shown in night/test_kill.py, for every point of a night.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import threading
import time
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from asking import wait_for
from served import start_server, stop_server
from sqlalchemy import create_engine, text

import flows.nightly
from flows.helpers.steps import RETRY_SECONDS
from flywheel.ledger.nights import finished_steps, last_night
from flywheel.ledger.releases import release_history
from flywheel.loop import Beginning, Slot, begin_night, open_loop
from flywheel.loop.steps import STEPS
from flywheel.report import status
from flywheel.serve import ModelServer
from flywheel.stack import catalogue
from flywheel.stack.local import copy_empty_database
from flywheel.stack.supervise import start_all, stop_all

pytestmark = pytest.mark.integration

DAY, HOUR = timedelta(days=1), timedelta(hours=1)
TOY = Path(__file__).parents[2] / "toys" / "corner_task.py"
SETTINGS = """
[project]
name = "{name}"
task = "corner_task:task"
[storage]
ledger = "{ledger}"
blobs = "{blobs}"
[serve]
port = {port}
[labeling]
url = "{nobody}"
[train]
steps = {steps}
learning_rate = 0.03
device = "cpu"
cpu_threads = 1
[prefect]
url = "{prefect}"
"""
NIGHT = "import sys; from flows.nightly import nightly; print(nightly(sys.argv[1], return_state=True).name)"
LATE = """
import sys
from flows.nightly import nightly
from prefect.client.orchestration import get_client
from prefect.flow_engine import run_flow
with get_client(sync_client=True) as client:
    made = client.read_flow_run(sys.argv[1])
print(run_flow(nightly, flow_run=made, parameters=made.parameters, return_type="state").name)
"""
SHORT, LONG = 60, 1500
"""steps of a moment, and of some seconds"""


@pytest.fixture(scope="module")
def make(tmp_path_factory, free_url):
    """Makes a project whose model server runs, with its storage where it is reported."""
    started = []

    def project(name, prefect, *, steps=SHORT, **storage):
        folder = tmp_path_factory.mktemp(name) / "here"
        folder.mkdir()
        shutil.copy(TOY, folder)
        places = {"ledger": "sqlite:///.flywheel/ledger.db", "blobs": ".flywheel/blobs", **storage}
        places |= {"port": free_url().rpartition(":")[2], "nobody": free_url(), "prefect": prefect}
        text = SETTINGS.format(name=name, steps=steps, **places)
        (folder / "flywheel.toml").write_text(text)
        started.append(start_server(folder))
        return folder

    with pytest.MonkeyPatch.context() as env:
        env.setenv("LABEL_STUDIO_API_KEY", "nobody asks for it")
        env.setenv("OMP_NUM_THREADS", "1")
        yield project
        for server in started:
            stop_server(server)


@contextmanager
def night_of(directory, program=NIGHT, **environment):
    """A night in a process of its own, which is in training when the block begins."""
    with open_loop(directory) as loop:
        command = [sys.executable, "-c", program, str(directory)]
        process = subprocess.Popen(
            command, stdout=subprocess.PIPE, text=True, env=os.environ | environment
        )

        def trains():
            assert process.poll() is None, process.stdout.read()
            with loop.ledger.read() as connection:
                night = last_night(connection)
                return night is not None and "ingest" in finished_steps(connection, night.number)

        wait_for(trains)
    yield process
    process.stdout.close()


def facts(directory):
    """Night, whether it is over, steps it has, and releases."""
    with open_loop(directory) as loop, loop.ledger.read() as connection:
        night = last_night(connection)
        done = len(finished_steps(connection, night.number))
        releases = release_history(connection)
        serving = ModelServer(loop.project.server_url).digest()
        assert serving == (releases[-1].checkpoint_digest if releases else None)
        return night.number, night.finished_at is not None, done, len(releases)


ENDED = (1, True, 8, 1)
"""one night with all of its steps, and one release, which serves"""


class Clock:
    """The time of day, as far ahead as a test says."""

    ahead = timedelta()

    def __call__(self):
        return datetime.now(UTC) + self.ahead


class Wire:
    """A TCP connection to a server that can be cut."""

    def __init__(self, port):
        self._to = ("127.0.0.1", port)
        self._door = socket.create_server(("127.0.0.1", 0))
        self.port = self._door.getsockname()[1]
        self.is_cut = False
        self._open = []
        threading.Thread(target=self._serve, daemon=True).start()

    def cut(self):
        self.is_cut = True
        for one in self._open:
            with suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)

    def close(self):
        self.cut()
        self._door.shutdown(socket.SHUT_RDWR)  # else the thread goes on waiting for who comes
        for one in (self._door, *self._open):
            one.close()

    def _serve(self):
        while True:
            try:
                near, _ = self._door.accept()
            except OSError:
                return
            if self.is_cut:
                near.close()
                continue
            far = socket.create_connection(self._to)
            self._open += [near, far]
            for pair in ((near, far), (far, near)):
                threading.Thread(target=self._carry, args=pair, daemon=True).start()

    def _carry(self, source, target):
        with suppress(OSError):
            while data := source.recv(65536):
                target.sendall(data)
        with suppress(OSError):
            target.shutdown(socket.SHUT_RDWR)


@pytest.fixture
def wire(postgres_server):
    """PostgreSQL with a database called faults, behind a wire."""
    engine = create_engine(f"{postgres_server.url}/postgres", isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.execute(text("CREATE DATABASE faults"))
    engine.dispose()
    wire = Wire(postgres_server.port)
    yield wire
    wire.close()


@pytest.fixture
def small_disk(tmp_path):
    """A folder on a disk of its own that a test can fill."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(folder)]
    if subprocess.run(mount, capture_output=True, check=False).returncode != 0:
        pytest.skip("only root can mount a small disk")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


def test_after_a_week_without_runs_two_schedulers_make_one_night(
    make, prefect_server, made_by_schedule, take_up
):
    directory, now, flow = make("paused", prefect_server), datetime.now(UTC), flows.nightly.nightly
    week = made_by_schedule(flow, directory, "paused", "0 2 * * *", now - 7 * DAY, now)
    [again] = made_by_schedule(flow, directory, "doubled", "0 2 * * *", now - DAY, now)
    assert len(week) == 7
    assert week[-1].expected_start_time == again.expected_start_time
    old = [take_up(flow, one) for one in week[:-1]]
    assert {state.name for state in old} == {"Skipped"}
    assert "was already due" in old[0].message
    other = [sys.executable, "-c", LATE, str(again.id)]
    with subprocess.Popen(other, stdout=subprocess.PIPE, text=True) as process:
        mine = take_up(flow, week[-1]).name
        theirs = process.communicate()[0].split()[-1]
    assert sorted([mine, theirs]) == ["PROMOTE", "Skipped"]
    assert facts(directory) == ENDED


def test_prefects_server_may_restart_in_mid_night(make, prefect_server, tmp_path, free_url):
    url = free_url()
    service = catalogue.prefect_server(
        tmp_path / "home", url, os.environ["PREFECT_API_AUTH_STRING"]
    )
    away = {"PREFECT_API_URL": f"{url}/api", "PREFECT_HOME": str(tmp_path / "client")}
    directory = make("restarted", url, steps=LONG)
    copy_empty_database(tmp_path / "home", catalogue.empty_prefect())
    try:
        start_all([service], tmp_path, print)
        with night_of(directory, **away) as process:
            stop_all(tmp_path, print)
            time.sleep(2)
            start_all([service], tmp_path, print)
            said = process.communicate(timeout=300)[0]
        assert said.split()[-1] == "PROMOTE"
        assert facts(directory) == ENDED
    finally:
        stop_all(tmp_path, print)


def test_the_database_may_be_away_in_mid_night(make, prefect_server, wire):
    assert sum(RETRY_SECONDS) > 60  # a database is away for a minute when its machine starts anew
    url = f"postgresql+psycopg://postgres@127.0.0.1:{wire.port}/faults"
    directory = make("unplugged", prefect_server, steps=LONG, ledger=url)
    with night_of(directory, NIGHT) as process:
        wire.cut()
        time.sleep(3)
        wire.is_cut = False
        said = process.communicate(timeout=300)[0]
    assert said.split()[-1] == "PROMOTE"
    assert facts(directory) == ENDED


def test_a_full_disk_ends_a_night_in_one_line_and_loses_nothing(make, prefect_server, small_disk):
    directory = make("full", prefect_server, blobs=str(small_disk))
    (small_disk / "filler").write_bytes(b"0" * (shutil.disk_usage(small_disk).free - 4096))
    state = flows.nightly.nightly(directory, return_state=True)
    assert state.is_failed()
    assert "No space left on device" in state.message
    with open_loop(directory) as loop:
        assert "night 1 is unfinished and no process runs it" in status(loop).to_do
    (small_disk / "filler").unlink()
    assert flows.nightly.nightly(directory, return_state=True).name == "PROMOTE"
    assert facts(directory) == ENDED


@pytest.mark.parametrize("jump", [-DAY, pytest.param(DAY, marks=pytest.mark.long)])
def test_a_clock_that_jumps_in_mid_night_costs_no_night(make, prefect_server, jump):
    directory, clock = make(f"jumped{jump.days}", prefect_server), Clock()
    with open_loop(directory, clock) as loop:
        with begin_night(loop) as under_way:
            for step in STEPS[:4]:
                under_way.do(step)
            clock.ahead = jump
            for step in STEPS[4:]:
                under_way.do(step)
            under_way.finish()
        assert facts(directory) == ENDED
        clock.ahead = HOUR
        slot = Slot(at=clock(), begun_at=clock())
        with begin_night(loop, beginning=Beginning(slot=slot)) as under_way:
            assert under_way.number == 2
    assert flows.nightly.nightly(directory, return_state=True).is_completed()
    assert facts(directory) == (2, True, 8, 1)


def test_a_project_that_moved_says_where_its_runs_look(make, prefect_server):
    old = make("moved", prefect_server)
    flows.nightly.nightly(old, return_state=True)
    new = old.rename(old.with_name("there"))
    state = flows.nightly.nightly(old, return_state=True)
    assert state.is_failed()
    assert f"{old}/flywheel.toml: No such file or directory" in state.message
    assert "flywheel schedule DIR --moved" in state.message
    assert not old.exists()
    assert facts(new) == ENDED
