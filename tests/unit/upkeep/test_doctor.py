"""A doctor looks at everything, changes nothing, and says how to fix what is not well."""

from __future__ import annotations

import shutil
import threading
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import NamedTuple

import pytest

from flows.registration.doctor import CHECKS as PREFECT
from flywheel.cli.starter import write_starter
from flywheel.ledger import Ledger
from flywheel.ledger.nights import open_night
from flywheel.project import load_project
from flywheel.upkeep import examine, machine
from flywheel.upkeep.finding import fail, look

CHECKS = ["settings", "task", "versions", "ledger", "blobs", "disk", "secrets", "GPU"]
CHECKS += ["Prefect", "schedule", "Label Studio", "model server", "clock", "notices"]
SILENT = """
[project]
name = "my-project"
task = "my_task:task"
[serve]
port = 9
[labeling]
url = "http://127.0.0.1:9"
[prefect]
url = "http://127.0.0.1:9"
"""


class Usage(NamedTuple):
    total: int
    used: int
    free: int


@pytest.fixture
def directory(tmp_path, monkeypatch):
    """The starter project, whose servers do not run."""
    monkeypatch.delenv("FLYWHEEL_NOTIFY_URL", raising=False)
    folder = tmp_path / "project"
    write_starter(folder)
    (folder / "flywheel.toml").write_text(SILENT)
    return folder


def found(directory):
    return {one.check: one for one in examine(directory, PREFECT)}


def test_all_is_looked_at_though_no_server_answers_and_nothing_is_changed(directory):
    before = sorted(directory.rglob("*"))
    said = found(directory)
    assert list(said) == CHECKS
    silent = {one.check for one in said.values() if one.status == "fail"}
    assert silent == {"Prefect", "schedule", "Label Studio", "model server"}
    assert f"flywheel up {directory} starts it" in said["Prefect"].line
    assert [path for path in sorted(directory.rglob("*")) if "pycache" not in str(path)] == before


@pytest.fixture
def stranger():
    """Address of a program that answers everything with a page."""

    class Page(BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b"<html>")

        do_POST = do_GET  # noqa: N815

        def log_message(self, *_):
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Page) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@pytest.mark.parametrize("check", ["Prefect", "Label Studio", "schedule"])
def test_another_program_at_the_address_of_a_server_is_a_finding(directory, stranger, check):
    (directory / "flywheel.toml").write_text(SILENT.replace("http://127.0.0.1:9", stranger))
    finding = found(directory)[check]
    assert finding.status == "fail"
    assert check == "schedule" or "is another program" in finding.line


def test_what_is_broken_keeps_no_other_check_from_looking(directory):
    (directory / "my_task.py").write_text("def task(): return 1/0")
    state = directory / ".flywheel"
    state.mkdir()
    (state / "ledger.db").write_bytes(b"no database at all, though long enough to be read as one")
    (state / "blobs").write_text("a file")
    said = found(directory)
    assert [said[name].status for name in ("task", "ledger", "blobs")] == ["fail"] * 3
    assert "my_task" in said["task"].line
    assert "is no ledger" in said["ledger"].line
    assert list(said) == CHECKS


def test_without_settings_it_says_so_and_looks_at_the_versions(tmp_path):
    first, second = examine(tmp_path)
    assert (first.check, first.status) == ("settings", "fail")
    assert "flywheel init" in first.line
    assert (second.check, second.status) == ("versions", "ok")


def test_every_fault_of_the_settings_is_a_finding(directory):
    settings = directory / "flywheel.toml"
    settings.write_text(settings.read_text() + "[approval]\nhours = -1\n[retention]\nx = 1\n")
    lines = [one.line for one in examine(directory, PREFECT) if one.check == "settings"]
    assert ["approval.hours" in lines[0], "retention.x" in lines[1], len(lines)] == [True, True, 2]


def test_blobs_are_written_read_and_taken_away_again(directory):
    blobs = directory / ".flywheel/blobs"
    blobs.mkdir(parents=True)
    assert found(directory)["blobs"].status == "ok"
    assert not [path for path in blobs.rglob("*") if path.is_file()]


def test_secrets_that_others_can_read_are_reported_with_the_cure(directory):
    path = directory / ".flywheel/secrets.json"
    path.parent.mkdir()
    path.write_text("{}")
    path.chmod(0o640)
    [one] = machine.secrets(load_project(directory))
    assert (one.status, one.line.endswith(f"chmod 600 {path}")) == ("fail", True)


@pytest.mark.parametrize(("free", "status"), [(10**8, "fail"), (10**9, "warn"), (10**10, "ok")])
def test_a_disk_that_is_nearly_full_is_reported(directory, monkeypatch, free, status):
    monkeypatch.setattr(shutil, "disk_usage", lambda _: Usage(10**11, 10**11 - free, free))
    [one] = machine.disk(load_project(directory))
    assert one.status == status


def test_other_versions_and_missing_packages_are_reported(directory, monkeypatch):
    wanted = ["torch>=99", "no-such-package", 'numpy<0; extra == "dev"', "typer>=0.1"]
    monkeypatch.setattr(machine, "requires", lambda _: wanted)
    [one] = machine.versions(load_project(directory))
    assert one.status == "fail"
    assert "not >=99; no-such-package is missing: pip install" in one.line


def test_settings_that_need_an_extra_say_which(directory, monkeypatch):
    monkeypatch.setattr(machine, "find_spec", lambda _: None)
    project = load_project(directory)
    workers = project.workers.model_copy(update={"processes": 2})
    [one] = machine.versions(project.model_copy(update={"workers": workers}))
    assert (one.status, "pip install 'flywheel[scale]'" in one.line) == ("fail", True)


def test_a_ledger_from_the_future_means_a_clock_that_jumped(directory):
    ledger = Ledger.open(load_project(directory).ledger_url)
    with ledger.begin() as connection:
        open_night(connection, datetime.now(UTC) + timedelta(days=1))
    ledger.close()
    [reported] = [one for one in examine(directory, PREFECT) if "began at" in one.line]
    assert (reported.check, reported.status) == ("clock", "warn")


def test_an_error_that_is_not_ours_is_not_taken_for_a_finding():
    with pytest.raises(ZeroDivisionError):
        look("a check", lambda: [fail("a check", str(1 / 0))])
