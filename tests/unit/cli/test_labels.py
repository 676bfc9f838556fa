"""`flywheel labels`: readable in 80 columns, with the people as a file when asked for."""

import csv
import re
from contextlib import closing

import pytest

from flywheel.cli import main
from flywheel.ledger import Ledger
from flywheel.testing import LedgerBuilder

SETTINGS = """
[project]
name = "toy"
task = "toy_task:task"
[cost]
currency = "CHF"
per_hour = 60.0
per_night = 20.0
"""
TASK = """
from flywheel.task import Labeling, Task

def task():
    nothing = dict.fromkeys(("model", "inputs", "targets", "loss", "answers", "scores"), list)
    return Task(**nothing, labeling=Labeling(config="<View/>", data=dict, result=list, answer=str))
"""


@pytest.fixture
def directory(tmp_path):
    """A project in which two people have labeled."""
    (tmp_path / "flywheel.toml").write_text(SETTINGS)
    (tmp_path / "toy_task.py").write_text(TASK)
    (tmp_path / ".flywheel").mkdir()
    with closing(Ledger.open(f"sqlite:///{tmp_path}/.flywheel/ledger.db")) as ledger:
        crew = LedgerBuilder(ledger)
        samples = crew.ask(12, num_annotators=2)
        for sample in samples:
            crew.answer(sample, "ada-with-a-long-name@lab.example.com", 60.0)
            crew.answer(sample, "ben", 30.0)
        crew.label(samples)
    return tmp_path


@pytest.fixture
def labels(monkeypatch, capsys, directory):
    def run(*arguments):
        monkeypatch.setenv("COLUMNS", "80")
        monkeypatch.setattr("flywheel.cli.app.console.width", 80, raising=False)
        monkeypatch.setattr(
            "sys.argv", ["flywheel", "labels", str(directory), *map(str, arguments)]
        )
        with pytest.raises(SystemExit) as end:
            main()
        assert not end.value.code
        return capsys.readouterr().out

    return run


def test_people_queue_budgets_and_costs_are_told_in_eighty_columns(labels):
    said = labels()
    for heading in ("Work", "The queue", "Budgets", "Cost"):
        assert heading in said
    assert re.search(r"CHF per label +1\.500 \[", said)
    assert max(map(len, said.splitlines())) <= 80


def test_it_ends_with_what_to_do(labels):
    assert labels().rpartition("For better labels")[2].strip().startswith("- ")


def test_the_people_are_written_to_a_file_of_numbers(labels, tmp_path):
    path = tmp_path / "people.csv"
    assert f"wrote {path}" in labels("--csv", path)
    with path.open() as file:
        rows = {row["person"]: row for row in csv.DictReader(file)}
    assert rows["ben"]["answers"] == "12"
    assert float(rows["ben"]["money"]) == pytest.approx(6.0)
    assert rows["ben"]["right"] == ""
