"""Each ledger has an id of its own, which stays."""

import sqlite3
from contextlib import closing

from flywheel.ledger import Ledger
from flywheel.ledger.engine import project_id


def id_of(path):
    with closing(Ledger.open(f"sqlite:///{path}")) as ledger, ledger.read() as connection:
        return project_id(connection)


def test_a_ledger_gets_an_id_with_its_tables_and_keeps_it(tmp_path):
    first = id_of(tmp_path / "one.db")
    assert (len(first), int(first, 16) > 0) == (32, True)
    assert id_of(tmp_path / "one.db") == first
    assert id_of(tmp_path / "two.db") != first


def test_a_ledger_from_before_there_were_ids_gets_one(tmp_path):
    id_of(tmp_path / "old.db")
    with closing(sqlite3.connect(tmp_path / "old.db")) as old:
        old.executescript("drop table identity; update alembic_version set version_num = '0006'")
    first = id_of(tmp_path / "old.db")
    assert len(first) == 32
    assert id_of(tmp_path / "old.db") == first
