import sqlite3
import sys
from contextlib import closing
from pathlib import Path

from flywheel.stack import catalogue
from flywheel.stack.local import copy_empty_database, write_ahead


def made(folder):
    with closing(sqlite3.connect(folder / "label_studio.sqlite3")) as connection:
        connection.execute("CREATE TABLE task (id INTEGER)")


def test_the_setting_stays_in_the_file(tmp_path):
    made(tmp_path)
    assert write_ahead(tmp_path)
    with closing(sqlite3.connect(tmp_path / "label_studio.sqlite3")) as connection:
        assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)


def test_before_the_first_start_there_is_nothing_to_set(tmp_path):
    assert not write_ahead(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_busy_database_is_left_as_it_is(tmp_path, monkeypatch):
    monkeypatch.setattr("flywheel.stack.local._PATIENCE_SECONDS", 0.05)
    made(tmp_path)
    with closing(sqlite3.connect(tmp_path / "label_studio.sqlite3")) as other:
        other.execute("BEGIN EXCLUSIVE")
        assert not write_ahead(tmp_path)


def test_a_data_folder_begins_with_a_copy_of_the_empty_database_and_keeps_its_own(tmp_path):
    empty, data = tmp_path / "empty.sqlite3", tmp_path / "data"
    copy_empty_database(data, empty)
    assert not data.exists()
    empty.write_bytes(b"empty")
    copy_empty_database(data, empty)
    empty.write_bytes(b"another")
    copy_empty_database(data, empty)
    assert [path.read_bytes() for path in data.iterdir()] == [b"empty"]


def test_make_prepares_prefects_empty_database_where_a_first_start_looks_for_it():
    looked_for = catalogue.empty_prefect().relative_to(sys.prefix)
    makefile = (Path(__file__).parents[3] / "Makefile").read_text()
    assert f"sqlite+aiosqlite:///$$PWD/.venv/{looked_for} " in makefile
