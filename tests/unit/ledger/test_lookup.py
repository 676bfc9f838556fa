"""Which sample a person means."""

import pytest

from flywheel.errors import UnknownIdError
from flywheel.ledger.samples import find_sample


@pytest.mark.parametrize("length", [4, 5, 12, 63, 64])
def test_the_beginning_of_an_id_is_enough_when_it_is_the_only_one(ledger, production, length):
    sample_ids = [found.sample_id for found in production.predict(*[0.5] * 20)]
    with ledger.read() as connection:
        for sample_id in sample_ids:
            assert find_sample(connection, sample_id[:length]) == sample_id


def test_a_request_id_means_its_sample(ledger, production):
    (found,) = production.predict(0.5)
    with ledger.read() as connection:
        assert find_sample(connection, found.id) == found.sample_id


@pytest.mark.parametrize("key", ["", "abc", "ABCD", "%%%%", "____", "0" * 64, "0" * 65])
def test_anything_else_is_an_error_that_says_what_may_be_given(ledger, production, key):
    production.predict(0.5)
    with ledger.read() as connection, pytest.raises(UnknownIdError, match="at least its first 4"):
        find_sample(connection, key)
