"""All nights so far, read only as far as asked."""

import pytest

from flywheel.errors import UnknownIdError
from flywheel.ledger.history import ancestry, get_night, reported_nights, reports_of
from flywheel.ledger.nights import finish_night, open_night


@pytest.fixture
def connection(ledger):
    with ledger.begin() as connection:
        yield connection


def test_a_night_is_found_by_its_number(connection, production):
    open_night(connection, production.now)
    finish_night(connection, 1, production.now)
    assert get_night(connection, 1).finished_at == production.now


def test_a_night_that_never_was_is_an_error_that_names_the_known_ones(connection, production):
    with pytest.raises(UnknownIdError, match="no night 1 in the ledger; nights: there was none"):
        get_night(connection, 1)
    open_night(connection, production.now)
    with pytest.raises(UnknownIdError, match=r"nights: 1\.\.1"):
        get_night(connection, 2)


def test_without_a_report_there_is_nothing_to_read(connection):
    assert reported_nights(connection, 10) == []
    assert reports_of(connection, []) == []


def test_a_version_stands_with_its_parents_newest_first_up_to_the_limit(production):
    with production.at_once() as connection:
        for name in ("a", "b", "c"):
            production.version(id=name)
        assert [found.id for found in ancestry(connection, "c", 10)] == ["c", "b", "a"]
        assert [found.id for found in ancestry(connection, "c", 2)] == ["c", "b"]
