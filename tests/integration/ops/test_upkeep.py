"""Looking after a project with real servers: examined, backed up, brought back, cleaned."""

from __future__ import annotations

import os
import re

import commands
import pytest

from flows.nightly import nightly
from flywheel import stack
from flywheel.cli.starter import write_starter
from flywheel.loop import open_loop
from flywheel.private import PRIVATE_MASK
from flywheel.project import load_project
from flywheel.report import status

pytestmark = pytest.mark.integration

SETTINGS = """
[project]
name = "kept"
task = "my_task:task"
[serve]
port = {port}
[labeling]
url = "{label_studio}"
[train]
steps = 5
device = "cpu"
[prefect]
url = "{prefect}"
"""


@pytest.fixture(scope="module")
def project(tmp_path_factory, prefect_server, label_studio, free_url):
    """After its first night, with all of its servers; nothing of it is scheduled."""
    directory = tmp_path_factory.mktemp("kept") / "project"
    write_starter(directory)
    before = os.umask(PRIVATE_MASK)  # as in every process that writes state
    places = {"label_studio": label_studio.url, "prefect": prefect_server}
    port = free_url().rpartition(":")[2]
    (directory / "flywheel.toml").write_text(SETTINGS.format(port=port, **places))
    project = load_project(directory)
    with pytest.MonkeyPatch.context() as env:
        env.setenv("LABEL_STUDIO_API_KEY", label_studio.token)
        env.setenv("OMP_NUM_THREADS", "1")
        env.delenv("FLYWHEEL_NOTIFY_URL", raising=False)
        stack.up(project, ["model-server"])
        assert nightly(directory, return_state=True).name == "PROMOTE"
        yield project
        stack.down(project)
    os.umask(before)


@pytest.fixture(scope="module")
def away(project):
    """The same project, when its model server has ended."""
    stack.down(project)
    return project


def flywheel(*arguments, code=0, run=commands.here):
    done = run(*arguments)
    assert done.code == code, done.out + done.err
    return done.out + done.err


def marks(said):
    """Check -> its mark."""
    return {line[2:16].strip(): line[0] for line in said.splitlines()}


def stands(directory):
    """What status says, without the paths."""
    with open_loop(directory) as loop:
        return [line.replace(str(directory), "DIR") for line in status(loop).lines()]


def test_a_doctor_finds_all_well_but_that_nothing_is_scheduled_and_no_address_set(project):
    said = flywheel("doctor", project.directory, run=commands.as_process)
    unwell = {check for check, mark in marks(said).items() if mark != "✓"}
    assert unwell == {"schedule", "notices"}
    assert re.search(r"model server +http://\S+ serves [0-9a-f]{12}, which was released", said)
    assert "takes the token, version 1.23.2" in said
    assert "3 servers agree" in said


def test_a_wrong_token_and_a_silent_server_are_reported_with_status_1(away, monkeypatch):
    monkeypatch.setenv("LABEL_STUDIO_API_KEY", "a" * 40)
    said = flywheel("doctor", away.directory, code=1)
    assert {check for check, mark in marks(said).items() if mark == "✗"} == {
        "Label Studio",
        "model server",
    }
    assert "a" * 40 not in said
    assert f"flywheel up {away.directory} starts it" in said


def test_a_back_up_brings_a_project_back_elsewhere_as_it_was(away, tmp_path):
    kept, there = tmp_path / "kept", tmp_path / "there"
    assert "blobs" in flywheel("backup", kept, away.directory)
    flywheel("restore", kept, there)
    assert stands(there) == stands(away.directory)
    stack.up(load_project(there), ["model-server"])
    try:
        served = flywheel("doctor", there)
    finally:
        stack.down(load_project(there))
    assert "which was released" in served


def test_a_back_up_with_one_wrong_byte_is_refused_before_anything_is_written(away, tmp_path):
    kept, there = tmp_path / "kept", tmp_path / "there"
    flywheel("backup", kept, away.directory)
    spoiled = max(
        (path for path in kept.rglob("*") if path.is_file()), key=lambda p: p.stat().st_size
    )
    data = bytearray(spoiled.read_bytes())
    data[len(data) // 2] ^= 1
    spoiled.write_bytes(data)
    flywheel("restore", kept, there, code=2)
    assert not there.exists()


def test_cleaning_takes_only_what_nothing_refers_to(away):
    before = stands(away.directory)
    said = flywheel("clean", away.directory)
    assert re.search(r"orphan blobs +0 ", said)
    assert stands(away.directory) == before
