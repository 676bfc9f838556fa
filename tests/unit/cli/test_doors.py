"""flywheel import, as it is typed: it shows what it understood, and stores each row once."""

import json
from pathlib import Path

import pytest
from PIL import Image
from worlds.logs import write_lines

from flywheel.cli import main
from flywheel.cli.starter import write_starter
from flywheel.ledger.predictions import measure_log
from flywheel.loop import open_loop
from flywheel.model import weights_of


@pytest.fixture
def directory(tmp_path):
    write_starter(tmp_path / "mine")
    return tmp_path / "mine"


@pytest.fixture
def flywheel(monkeypatch, capsys, directory):
    """Run flywheel import; its status and what it printed."""

    def run(*arguments):
        words = ["flywheel", "import", *map(str, arguments), "-d", str(directory)]
        monkeypatch.setattr("sys.argv", words)
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            main()
        said = capsys.readouterr()
        return ended.value.code or 0, said.err + said.out

    return run


@pytest.fixture
def log(tmp_path):
    Image.new("L", (8, 8), 9).save(tmp_path / "a.png")
    row = {"request": "r1", "at": "2026-02-01T10:00:00", "path": "a.png", "answer": "3"}
    return write_lines(tmp_path / "log.jsonl", [row, row | {"request": "r2", "path": "gone.png"}])


OPTIONS = ("--map", "id=request", "--map", "time=at", "--timezone", "Europe/Berlin")


def num_logged(directory):
    with open_loop(directory) as loop, loop.ledger.read() as connection:
        return measure_log(connection, 0.5).num_predictions


def test_a_dry_run_shows_what_it_understood_and_stores_nothing(flywheel, directory, log):
    status, said = flywheel("predictions", log, *OPTIONS, "--dry-run")
    assert (status, num_logged(directory)) == (0, 0)
    for part in (
        "columns     path, answer, request is id, at is time",
        "row         1: r1: image/png",
        "times       2026-02-01 09:00 to 2026-02-01 09:00 UTC",
        "models      unknown 1; none is a release of this project",
        "missing     1 confidences and 1 embeddings",
        "rejected    1 of the first 2 rows: payload is gone",
        "nothing is stored",
    ):
        assert part in said


def test_it_is_stored_once_and_rejects_have_their_reasons(flywheel, directory, log):
    status, said = flywheel("predictions", log, *OPTIONS)
    assert (status, num_logged(directory)) == (0, 1)
    assert "2 rows, 1 new" in said
    assert "rejected    1: payload is gone" in said
    rejects = directory / ".flywheel/imports/rejects.jsonl"
    assert json.loads(rejects.read_text())["row"] == 2
    assert "0 rows, 0 new, 2 were read before" in flywheel("predictions", log, *OPTIONS)[1]


def test_feedback_is_imported_too(flywheel, log, tmp_path):
    flywheel("predictions", log, *OPTIONS)
    row = {"id": "r1", "kind": "outcome", "value": False, "time": "2026-02-02T00:00:00Z"}
    said = write_lines(tmp_path / "said.jsonl", [row, row | {"id": "later"}])
    assert "1 new, 1 wait for their prediction" in flywheel("feedback", said)[1]


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        ((), "columns 'request', 'at', which are not known"),
        ((*OPTIONS, "--map", "model=version"), "has no column 'version'"),
        ((*OPTIONS, "--map", "model"), "is no FIELD=COLUMN"),
        (("--timezone", "Mars"), "is not known"),
    ],
)
def test_what_is_typed_wrong_is_one_line(flywheel, log, arguments, why):
    status, said = flywheel("predictions", log, *arguments)
    assert (status, why in said) == (2, True), said


def test_a_file_of_which_nothing_can_be_used_ends_in_a_status(flywheel, log):
    """None of its times has a zone."""
    status, said = flywheel("predictions", log, *OPTIONS[:4])
    assert (status, "2: time has no time zone; give --timezone" in said) == (1, True)


def test_answers_that_are_none_of_the_task_are_named(flywheel, log):
    row = json.loads(log.read_text().splitlines()[0])
    write_lines(log, [row | {"answer": {"x": 1}}])
    assert "is no answer of the task" in flywheel("predictions", log, *OPTIONS, "--dry-run")[1]


@pytest.fixture
def run(monkeypatch, capsys, directory):
    """Run any command; its status and what it printed."""

    def go(*arguments):
        monkeypatch.setattr("sys.argv", ["flywheel", *map(str, arguments), "-d", str(directory)])
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            main()
        said = capsys.readouterr()
        return ended.value.code or 0, said.err + said.out

    return go


def test_a_champion_is_registered_and_its_release_exported(run, directory, tmp_path, monkeypatch):
    monkeypatch.setattr("flywheel.cli.running.report_release", lambda *_: None)
    settings = directory / "flywheel.toml"
    settings.write_text(settings.read_text() + '\n[serve]\nmode = "external"\n')
    folder = tmp_path / "model"
    folder.mkdir()
    with open_loop(directory) as loop:
        (folder / "w.safetensors").write_bytes(weights_of(loop.task.network()))
    status, said = run("champion", folder)
    assert (status, "release 1 is" in said) == (0, True), said
    status, said = run("export-release", tmp_path / "out")
    place = Path(said.split("wrote ")[1].strip())
    manifest = json.loads((place / "manifest.json").read_text())
    assert (status, manifest["release"], manifest["files"][0]["name"]) == (
        0,
        1,
        "network.safetensors",
    )
    assert "has no release 7" in run("export-release", tmp_path / "out", "--release", 7)[1]


def test_a_champion_is_one_thing(run):
    assert "Give one of them" in run("champion")[1]
    assert "only answers" in run("champion", "--answers", "resnet-3")[1]
