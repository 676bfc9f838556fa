"""import-labels and dataset export, as they are typed."""

import io
import json

import pytest
from PIL import Image

from flywheel.blobs import Blobs
from flywheel.cli import main
from flywheel.cli.starter import write_starter
from flywheel.loop import open_loop
from flywheel.records import DatasetRow, Sample, Split
from flywheel.testing import LedgerBuilder


@pytest.fixture
def directory(tmp_path):
    write_starter(tmp_path / "mine")
    return tmp_path / "mine"


@pytest.fixture
def flywheel(monkeypatch, capsys):
    """Run a command; what it printed, or the line with which it ended."""

    def run(*arguments):
        monkeypatch.setattr("sys.argv", ["flywheel", *map(str, arguments)])
        monkeypatch.setattr("sys.stdin", io.StringIO())
        capsys.readouterr()
        with pytest.raises(SystemExit):
            main()
        said = capsys.readouterr()
        return said.err or said.out

    return run


@pytest.fixture
def digits(tmp_path):
    for number, part in enumerate(["train/0", "train/1", "test/1"]):
        folder = tmp_path / "digits" / part
        folder.mkdir(parents=True)
        Image.new("L", (8, 8), number).save(folder / "a.png")
    return tmp_path / "digits"


def test_a_preview_stores_nothing_and_yes_stores_it_once(flywheel, directory, digits):
    said = flywheel("import-labels", digits, "-d", directory)
    assert "3 samples: 2 train, 1 held out with the start data" in said
    assert "1 2, 0 1" in said
    assert "nothing is stored; give --yes" in said
    assert "stored 3 labels" in flywheel("import-labels", digits, "--yes", "-d", directory)
    assert "there is nothing to store" in flywheel(
        "import-labels", digits, "--yes", "-d", directory
    )


def test_paths_are_those_of_where_it_was_typed(flywheel, directory, digits, monkeypatch):
    """A task changed the current folder, and the labels were sought there."""
    code = (directory / "my_task.py").read_text()
    (directory / "my_task.py").write_text(f"{code}\nimport os\nos.chdir('/')\n")
    monkeypatch.chdir(digits.parent)
    assert "stored 3 labels" in flywheel("import-labels", digits.name, "--yes", "-d", "mine")


def test_a_fault_is_one_line(flywheel, directory, tmp_path):
    (tmp_path / "a.csv").write_text("text,label\nx,cat\n")
    said = flywheel("import-labels", tmp_path / "a.csv", "--yes", "-d", directory)
    assert 'a.csv line 2, column label: "cat" is no answer of the task' in said
    assert said.count("\n") == 1


def test_the_newest_version_is_exported(flywheel, directory, tmp_path):
    to = tmp_path / "out"
    assert "there is no dataset version yet" in flywheel(
        "dataset", "export", "--to", to, "-d", directory
    )
    sample = Sample.of(b"x", "text/plain")
    row = DatasetRow(sample_id=sample.id, split=Split.TEST, origin="start", answer="a", weight=1.0)
    with open_loop(directory) as loop:
        past = LedgerBuilder(loop.ledger, Blobs.open(loop.project.blobs_url))
        past.predict(0.5, sample=sample)
        past.blobs.put(sample.payload)
        made = past.version([row])
    said = flywheel("dataset", "export", made.id[:6], "--to", to, "-d", directory)
    assert "0 rows that train and 1 that test" in said
    assert json.loads((to / "rows.jsonl").read_text())["answer"] == "a"
    assert "holds something already" in flywheel("dataset", "export", "--to", to, "-d", directory)
    to = tmp_path / "boxes"
    said = flywheel("dataset", "export", "--to", to, "--as", "coco", "-d", directory)
    assert "is no list of boxes" in said
