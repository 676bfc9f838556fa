import pytest

from flywheel.errors import UnknownIdError
from flywheel.ledger.releases import add_checkpoint, get_checkpoint, latest_checkpoint


def test_a_checkpoint_comes_back_by_its_digest(connection, checkpoint):
    add_checkpoint(connection, checkpoint("a"))
    assert get_checkpoint(connection, "a") == checkpoint("a")


def test_adding_a_digest_again_keeps_the_first_record(connection, checkpoint):
    add_checkpoint(connection, checkpoint("a", 1))
    add_checkpoint(connection, checkpoint("a", 2))
    assert get_checkpoint(connection, "a") == checkpoint("a", 1)


def test_the_latest_is_the_one_trained_last(connection, checkpoint):
    assert latest_checkpoint(connection) is None
    for digest, night in (("b", 1), ("c", 3), ("a", 2)):
        add_checkpoint(connection, checkpoint(digest, night))
    assert latest_checkpoint(connection).digest == "c"


def test_an_unknown_digest_is_refused_by_name(connection):
    with pytest.raises(UnknownIdError, match="no checkpoint zz"):
        get_checkpoint(connection, "zz")
