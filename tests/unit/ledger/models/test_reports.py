import pytest

from flywheel.errors import UnknownIdError
from flywheel.ledger.judged import add_report, get_report, report_of_night


def test_a_report_comes_back_by_id_and_by_night(connection, report):
    add_report(connection, report("r1", 4))
    assert get_report(connection, "r1") == report("r1", 4)
    assert report_of_night(connection, 4) == report("r1", 4)
    assert report_of_night(connection, 5) is None


def test_a_night_that_was_run_again_shows_its_later_report(connection, report):
    for name in ("r1", "r2", "r1"):
        add_report(connection, report(name, 4))
    assert report_of_night(connection, 4).id == "r2"


def test_an_unknown_report_is_refused_by_name(connection):
    with pytest.raises(UnknownIdError, match="no report zz"):
        get_report(connection, "zz")
