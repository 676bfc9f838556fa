"""What the command line says and with which status it ends; no server runs."""

from __future__ import annotations

import json
import os
import shutil
from typing import NamedTuple
from unittest.mock import Mock
from urllib.request import proxy_bypass

import pytest
import typer

from flywheel import checks
from flywheel.cli import main
from flywheel.cli.starter import write_starter
from flywheel.ledger import Ledger
from flywheel.loop import open_loop
from flywheel.project import load_project
from flywheel.testing import LedgerBuilder

COMMANDS = {
    "check": [],
    "up": [],
    "down": [],
    "night": [],
    "label": [],
    "status": [],
    "labels": [],
    "trace": ["0123abcd"],
    "report": [],
    "rollback": ["--reason", "test"],
    "schedule": [],
    "serve": [],
}
"""command -> what it needs before the directory"""


class Done(NamedTuple):
    """How a command ended."""

    code: int
    out: str
    err: str


@pytest.fixture
def flywheel(monkeypatch, capsys):
    """Runs a command as its process would, up to the exit status."""
    monkeypatch.setenv("PREFECT_API_URL", "http://127.0.0.1:9/api")  # put back after the test
    monkeypatch.setenv("LABEL_STUDIO_API_KEY", "unused")

    def run(*arguments):
        monkeypatch.setattr("sys.argv", ["flywheel", *map(str, arguments)])
        capsys.readouterr()
        with pytest.raises(SystemExit) as end:
            main()
        said = capsys.readouterr()
        return Done(int(end.value.code or 0), said.out, said.err)

    mask = os.umask(0o022)
    yield run
    os.umask(mask)


@pytest.fixture(scope="module")
def fresh(tmp_path_factory):
    """A project as `flywheel init` writes it."""
    directory = tmp_path_factory.mktemp("cli") / "fresh"
    write_starter(directory)
    with (directory / "flywheel.toml").open("a") as settings:
        settings.write("[serve]\nport = 9\n")  # nobody listens there
    return directory


def is_one_line(done, code):
    """The process ended with this code and one line on stderr, and without a traceback."""
    lines = done.err.splitlines()
    return (done.code, len(lines), lines[0][:10] if lines else "") == (code, 1, "flywheel: ")


def test_what_init_writes_passes_check(flywheel, fresh):
    done = flywheel("check", fresh)
    assert (done.code, done.err) == (0, "")
    assert "keeps every law" in done.out


def test_init_overwrites_nothing(flywheel, fresh):
    before = (fresh / "my_task.py").read_text()
    assert is_one_line(flywheel("init", fresh), 2)
    assert (fresh / "my_task.py").read_text() == before


def _broken(fresh, directory, old, new):
    directory.mkdir()
    text = (fresh / "flywheel.toml").read_text()
    assert old in text
    (directory / "flywheel.toml").write_text(text.replace(old, new))
    (directory / "my_task.py").write_text((fresh / "my_task.py").read_text())
    return directory


@pytest.mark.parametrize("command", COMMANDS)
def test_an_unknown_key_is_one_line_for_every_command(flywheel, command, fresh, tmp_path):
    directory = _broken(fresh, tmp_path / "p", "steps = 1000", "step = 1000")
    done = flywheel(command, *COMMANDS[command], directory)
    assert is_one_line(done, 2), done.err
    assert "'train.step'; did you mean 'steps'?" in done.err
    assert [path.name for path in directory.glob(".flywheel")] == []


@pytest.mark.parametrize(
    ("command", "old", "new", "said"),
    [
        ("check", "my_task:task", "my_task:tusk", "no function 'tusk'"),
        ("status", "my_task:task", "my_tusk:task", "cannot import 'my_tusk'"),
        ("serve", "my_task:task", "my_task", "module:function"),
        ("status", "steps = 1000", "steps = 0", "train.steps = 0"),
        ("status", 'timezone = "UTC"', 'timezone = "Mars"', "'Mars'"),
        ("status", "[train]", '[storage]\nblobs = "my_task.py/blobs"\n[train]', "storage.blobs"),
        ("status", "[train]", '[storage]\nledger = "oracle://x"\n[train]', "storage.ledger"),
        ("report", "[train]", "[train", "is not TOML"),
    ],
)
def test_what_cannot_be_is_one_line_and_names_it(
    flywheel, command, old, new, said, fresh, tmp_path
):
    directory = _broken(fresh, tmp_path / "p", old, new)
    done = flywheel(command, directory)
    assert is_one_line(done, 2), done.err
    assert said in done.err


def test_a_folder_without_settings_is_one_line(flywheel, tmp_path):
    done = flywheel("status", tmp_path)
    assert is_one_line(done, 2)
    assert "flywheel init" in done.err


def test_settings_that_are_a_pipe_are_not_waited_for(flywheel, tmp_path):
    os.mkfifo(tmp_path / "flywheel.toml")
    done = flywheel("down", tmp_path)
    assert is_one_line(done, 2), done.err
    assert "is not a file" in done.err


def test_a_current_folder_that_is_gone_is_one_line(flywheel, tmp_path, monkeypatch):
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    done = flywheel("status")
    assert is_one_line(done, 2), done.err
    assert "current folder has been deleted" in done.err


@pytest.mark.parametrize("fault", [EOFError("no answer"), typer.Abort()], ids=["file", "prompt"])
def test_what_ends_too_early_is_one_line(flywheel, fresh, monkeypatch, fault):
    monkeypatch.setattr("flywheel.cli.scheduling.stop", Mock(side_effect=fault))
    done = flywheel("down", fresh)
    assert is_one_line(done, 2), done.err
    assert "ended too early: no answer" in done.err


@pytest.mark.parametrize(("stopped", "warns"), [(["prefect", "worker"], True), (["worker"], False)])
def test_who_shares_the_servers_that_were_stopped_is_named(
    flywheel, fresh, monkeypatch, stopped, warns
):
    """Six projects stood still, and nothing said so."""
    monkeypatch.setattr("flywheel.cli.scheduling.stop", Mock(return_value=stopped))
    done = flywheel("down", fresh)
    assert ("projects that share these servers wait" in done.out) is warns


def test_status_of_a_fresh_project_says_what_to_do(flywheel, fresh):
    done = flywheel("status", fresh)
    assert (done.code, done.err) == (0, "")
    assert "flywheel night" in done.out


def test_labels_of_a_fresh_project_say_that_nobody_has_answered(flywheel, fresh):
    done = flywheel("labels", fresh)
    assert (done.code, done.err) == (0, "")
    assert "No annotation has come back yet." in done.out


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["trace", "0123abcd"], "0123abcd"),
        (["report"], "flywheel night"),
        (["rollback", "--reason", "test"], "no earlier release"),
        (["rollout", "abort", "--reason", "test"], "has no rollout under way"),
        (["rollout", "stop", "--reason", "test"], "Write promote or abort"),
    ],
)
def test_before_the_first_night_there_is_nothing_to_tell(flywheel, arguments, said, fresh):
    done = flywheel(*arguments, fresh)
    assert is_one_line(done, 2), done.err
    assert said in done.err


def test_a_file_in_the_way_is_one_line(flywheel, fresh, tmp_path):
    (tmp_path / "folder").write_text("a file")
    done = flywheel("init", tmp_path / "folder" / "new")
    assert is_one_line(done, 2), done.err
    assert "cannot be written" in done.err


def test_a_disk_that_fails_is_one_line_and_not_a_traceback(flywheel, fresh, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device", "/disk/page.html")

    monkeypatch.setattr("flywheel.report.status", full)
    done = flywheel("status", fresh)
    assert is_one_line(done, 1), done.err
    assert "/disk/page.html: No space left on device" in done.err


def test_a_metric_that_no_score_has_is_refused_before_any_night(flywheel, tmp_path, monkeypatch):
    monkeypatch.setattr(checks, "check_task", lambda *_: [])  # above it keeps every law
    write_starter(tmp_path / "digits")
    settings = tmp_path / "digits" / "flywheel.toml"
    settings.write_text(settings.read_text().replace('"correct"', '"corect"'))
    done = flywheel("check", tmp_path / "digits")
    assert (done.code, done.err.count("\n")) == (2, 1)
    assert "no score is called 'corect'; did you mean 'correct'?" in done.err


def test_a_night_ends_with_its_number_and_the_next_step(flywheel, tmp_path, monkeypatch):
    """Who had run a night did not know which, nor where labeling tasks waited."""
    write_starter(tmp_path / "digits")

    def turn(project, _console):
        past = LedgerBuilder(Ledger.open(project.ledger_url))
        past.end(past.night())
        past.ledger.close()

    monkeypatch.setattr("flywheel.cli.running.run_night", turn)
    done = flywheel("night", tmp_path / "digits")
    assert done.out.startswith("night 1 is done; next: ")
    assert "the next night collects it: flywheel night " in done.out
    assert done.code == 0


def test_before_the_first_night_the_table_of_nights_names_the_next_step(flywheel, tmp_path):
    write_starter(tmp_path / "digits")
    done = flywheel("nights", tmp_path / "digits")
    assert (done.code, done.err) == (0, "")
    assert "no night yet; next: flywheel night" in done.out


@pytest.mark.parametrize(
    ("folder", "name"),
    [
        ("cell-7", "cell-7"),
        ("My Project", "my-project"),
        ("Part_A", "part-a"),
        ("Part_B", "part-b"),
        ("Prüfstand #2", "prufstand-2"),
    ],
)
def test_a_new_project_has_the_name_of_its_folder(tmp_path, folder, name):
    """Part_A and Part_B both became my-project, and shared one queue of labeling tasks."""
    write_starter(tmp_path / folder)
    assert load_project(tmp_path / folder).name == name


@pytest.mark.parametrize("folder", ["2", "7-cells", "部品", "a" * 41, "_"])
def test_a_folder_whose_name_makes_no_project_name_is_refused(flywheel, tmp_path, folder):
    done = flywheel("init", tmp_path / folder)
    assert is_one_line(done, 2)
    assert "Name the folder with a letter first" in done.err
    assert not (tmp_path / folder).exists()


def test_the_files_of_a_new_project_may_be_shared_and_its_state_may_not(flywheel, tmp_path):
    flywheel("init", tmp_path / "cells")
    flywheel("nights", tmp_path / "cells")
    with open_loop(tmp_path / "cells"):  # as a command that writes does
        pass
    settings, state = tmp_path / "cells/flywheel.toml", tmp_path / "cells/.flywheel"
    assert (settings.stat().st_mode & 0o777, state.stat().st_mode & 0o777) == (0o644, 0o700)
    rights = {path.stat().st_mode & 0o077 for path in state.rglob("*")}
    assert rights == {0}


@pytest.mark.parametrize(
    "command",
    [
        ("status",),
        ("nights",),
        ("labels",),
        ("report",),
        ("trace", "0123abcd"),
        ("rollback", "--reason", "test"),
        ("rollout", "abort", "--reason", "test"),
        ("clean", "--dry-run"),
        ("plan",),
        ("assess",),
        ("assess", "--train"),
        ("approve", "--name", "a", "--reason", "b"),
    ],
    ids=" ".join,
)
def test_a_command_that_reads_makes_no_ledger(flywheel, fresh, tmp_path, command):
    shutil.copytree(fresh, tmp_path / "p", ignore=shutil.ignore_patterns(".flywheel"))
    done = flywheel(*command, tmp_path / "p")
    assert done.code in {0, 1, 2}
    assert "Traceback" not in done.err
    assert not (tmp_path / "p/.flywheel").exists()


def test_no_command_reaches_this_machine_through_a_proxy(flywheel, fresh, monkeypatch):
    """Three servers that ran "do not answer" under http_proxy."""
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    monkeypatch.setenv("no_proxy", "")
    monkeypatch.setenv("NO_PROXY", "")
    flywheel("nights", fresh)
    assert os.environ["no_proxy"] == "localhost,127.0.0.1,::1"
    assert proxy_bypass("127.0.0.1")
    assert not proxy_bypass("gpu.example.com")


def test_a_folder_with_control_characters_is_one_line(flywheel, tmp_path):
    done = flywheel("status", tmp_path / "a\x1b[31m\nb")
    assert is_one_line(done, 2) or r"\x1b[31m" in done.err
    assert "\x1b" not in done.err


@pytest.mark.parametrize("command", ["nights", "labels"])
def test_two_forms_at_once_are_refused(flywheel, fresh, tmp_path, command):
    done = flywheel(command, fresh, "--json", "--csv", tmp_path / "table.csv")
    assert (done.code, "Give one of them" in done.err) == (2, True)
    assert not (tmp_path / "table.csv").exists()


@pytest.mark.parametrize("command", [("status",), ("nights",), ("labels",), ("plan",), ("assess",)])
def test_what_a_command_reads_is_json_for_programs(flywheel, fresh, tmp_path, command):
    shutil.copytree(fresh, tmp_path / "p", ignore=shutil.ignore_patterns(".flywheel"))
    done = flywheel(*command, "--json", tmp_path / "p")
    assert done.code == 0
    found = json.loads(done.out)
    assert found or command == ("nights",)
    if command == ("status",):
        assert found["status"]["to_do"].startswith("no night has run yet")


def test_a_plan_is_of_projects_that_cannot_train_yet(flywheel):
    done = flywheel("assess", "--plan", "plan.toml", "--train")
    assert (done.code, "Leave out --train" in done.err) == (2, True)


@pytest.mark.parametrize(
    ("code", "command"),
    [
        (0, ("status", "PROJECT")),
        (1, ("doctor", "PROJECT")),  # no server runs
        (1, ("night", "PROJECT")),
        (2, ("status", "PROJECT/nowhere")),
        (2, ("assess", "--wrong")),
        (2, ("trace", "0123abcd", "PROJECT")),
    ],
)
def test_a_script_knows_by_the_exit_code_what_to_do(flywheel, fresh, code, command):
    """As flywheel/cli/README.md has it; 130 is in test_stopping.py."""
    done = flywheel(*(part.replace("PROJECT", str(fresh)) for part in command))
    assert done.code == code, done.err
