"""Each ledger has an id of its own, which stays."""

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
