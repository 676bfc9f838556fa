"""A doctor looks at everything, changes nothing, and says how to fix what is not well."""

from __future__ import annotations

import json
import shutil
import threading
from contextlib import closing
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import NamedTuple

import pytest

from flows.registration.health import CHECKS as PREFECT
from flywheel.blobs import Blobs
from flywheel.cli.starter import write_starter
from flywheel.handover import begin_handover
from flywheel.ledger import Ledger
from flywheel.ledger.nights import open_night
from flywheel.ledger.releases import add_checkpoint, add_release
from flywheel.private import private_folder
from flywheel.project import load_project
from flywheel.testing import blank_checkpoint
from flywheel.upkeep import examine, machine, servers
from flywheel.upkeep.finding import fail, look

CHECKS = ["settings", "task", "versions", "ledger", "blobs", "model"]
CHECKS += ["disk", "secrets", "GPU"]
CHECKS += ["Prefect", "schedule", "Label Studio", "model server", "password", "pages"]
CHECKS += ["host names", "clock", "notices"]
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
    for name in ("FLYWHEEL_NOTIFY_URL", "PREFECT_API_URL", "LABEL_STUDIO_API_KEY"):
        monkeypatch.delenv(name, raising=False)  # those of other tests' servers
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
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
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
    assert "cannot be read: file is not a database" in said["ledger"].line
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
    path = directory / ".flywheel/label-studio/label_studio.sqlite3"
    path.parent.mkdir(parents=True)
    path.touch()
    private_folder(directory / ".flywheel")
    private_folder(path.parent)
    path.chmod(0o640)
    [one] = machine.secrets(load_project(directory))
    assert one.status == "fail"
    assert f"rights on 1 files and folders, the first is {path}: chmod -R go-rwx " in one.line
    path.chmod(0o600)
    [one] = machine.secrets(load_project(directory))
    assert one.status == "ok"


def test_a_ledger_outside_of_the_state_folder_is_looked_at_too(directory):
    (directory / "mine.db").touch()
    (directory / "mine.db").chmod(0o644)  # whatever umask an earlier test's command left
    settings = directory / "flywheel.toml"
    settings.write_text(f'{SILENT}[storage]\nledger = "sqlite:///mine.db"\n')
    [one] = machine.secrets(load_project(directory))
    assert (one.status, str(directory / "mine.db") in one.line) == ("fail", True)


DOORS = {"password": servers.passwords, "pages": servers.pages, "host names": servers.host_names}
GUARDED = {
    **dict.fromkeys(["GET /api/admin/version", "GET /api/projects/", "POST /model"], 401),
    "POST /feedback": 403,
    **dict.fromkeys(["GET /api/health", "GET /health/", "GET /health"], 400),
}


@pytest.fixture
def served(directory):
    """What a server answers to a method and path, and allows to other pages -> the project."""
    servers = []

    def start(answers, allowed=None, csrf=True):
        class Server(BaseHTTPRequestHandler):
            def do_GET(self):
                self.send_response(answers.get(f"{self.command} {self.path}", 200))
                if allowed:
                    self.send_header("Access-Control-Allow-Origin", allowed)
                self.end_headers()
                self.wfile.write(json.dumps({"csrf_enabled": csrf}).encode())

            do_POST = do_OPTIONS = do_GET  # noqa: N815

            def log_message(self, *_):
                """Say nothing."""

        servers.append(ThreadingHTTPServer(("127.0.0.1", 0), Server))
        threading.Thread(target=servers[0].serve_forever, args=(0.01,), daemon=True).start()
        port = servers[0].server_port
        text = SILENT.replace("127.0.0.1:9", f"127.0.0.1:{port}").replace("= 9", f"= {port}")
        (directory / "flywheel.toml").write_text(text)
        return load_project(directory)

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


@pytest.mark.parametrize("check", DOORS)
def test_servers_that_let_no_one_else_in_are_one_line(served, check):
    [one] = DOORS[check](served(GUARDED))
    assert (one.check, one.status) == (check, "ok")


@pytest.mark.parametrize("check", DOORS)
def test_each_server_that_lets_others_in_is_a_line_with_the_cure(served, check):
    found = list(DOORS[check](served({}, allowed="*", csrf=False)))
    assert [one.status for one in found] == ["fail"] * 3
    assert all("gets in: flywheel down " in one.line for one in found)


def test_a_server_of_the_users_own_is_warned_of_and_not_to_be_replaced(served, monkeypatch):
    """Doctor wanted to stop it and to start ours."""
    monkeypatch.setenv("LABEL_STUDIO_API_KEY", "mine")
    found = {one.line[:12]: one for one in servers.passwords(served({}))}
    own = found["Label Studio"]
    assert own.status == "warn"
    assert "flywheel down" not in own.line


@pytest.mark.parametrize(("allowed", "csrf"), [("*", True), (None, False)])
def test_prefects_pages_are_its_own_only_with_both_protections(served, allowed, csrf):
    found = list(servers.pages(served(GUARDED, allowed, csrf)))
    assert "Prefect at" in found[0].line


@pytest.mark.parametrize(("address", "number"), [("tcp://10.0.0.5:8786", 1), ("tls://x:1", 0)])
def test_a_dask_cluster_without_keys_is_reported(directory, address, number):
    settings = directory / "flywheel.toml"
    settings.write_text(f'{SILENT}[workers]\ncluster = "{address}"\n')
    assert [one.status for one in servers.cluster(load_project(directory))] == ["warn"] * number


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


def test_a_silent_model_server_is_no_fault_where_the_users_own_serves(directory):
    path = directory / "flywheel.toml"
    path.write_text(SILENT.replace("port = 9", 'port = 9\nmode = "external"', 1))
    said = found(directory)["model server"]
    assert (said.status, "flywheel import predictions" in said.line) == ("ok", True)


def test_a_release_that_their_server_never_reported_fails_after_its_deadline(directory):
    path = directory / "flywheel.toml"
    path.write_text(SILENT.replace("port = 9", 'port = 9\nmode = "external"', 1))
    project = load_project(directory)
    private_folder(project.state)
    with closing(Ledger.open(project.ledger_url)) as ledger, ledger.begin() as connection:
        digest = Blobs.open(project.blobs_url).put(b"weights")
        add_checkpoint(connection, blank_checkpoint(digest=digest))
        made = add_release(connection, digest, "by hand", datetime.now(UTC) - timedelta(days=2))
        begin_handover(connection, project, made)
    said = [one for one in servers.model_server(project, {}) if one.check == "release"]
    assert [(one.status, "release 1 is overdue" in one.line) for one in said] == [("fail", True)]
