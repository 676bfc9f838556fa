import pytest

from flywheel.blobs import Blobs
from flywheel.errors import UnknownIdError
from flywheel.ledger.samples import Placed, add_samples, groups_of, load_samples
from flywheel.records import Sample, Split


@pytest.fixture
def blobs(tmp_path):
    return Blobs.open(str(tmp_path / "blobs"))


@pytest.fixture
def store(ledger, blobs, production):
    def run(*samples, group="g", split=Split.TRAIN, payloads=True):
        if payloads:
            blobs.put_all(sample.payload for sample in samples)
        with ledger.begin() as connection:
            add_samples(connection, [Placed(one, group, split) for one in samples], production.now)
        return [sample.id for sample in samples]

    return run


def sample(number, **metadata):
    return Sample.of(f"payload {number}".encode(), "image/png", metadata)


def test_samples_come_back_whole_and_in_the_order_asked_for(ledger, blobs, store):
    put = [sample(number, scene=f"s{number}") for number in range(3)]
    ids = store(*put)
    with ledger.read() as connection:
        assert load_samples(connection, blobs, ids[::-1]) == put[::-1]
        assert load_samples(connection, blobs, []) == []


def test_a_sample_stays_in_the_group_and_split_in_which_it_first_came(ledger, store):
    store(sample(1), group="first")
    (key,) = store(sample(1, later=True), group="second", split=Split.TEST)
    with ledger.read() as connection:
        assert groups_of(connection, [key]) == {key: "first"}


def test_more_samples_than_one_statement_takes_come_back(ledger, store):
    ids = store(*[sample(number) for number in range(1_100)], payloads=False)
    with ledger.read() as connection:
        assert len(groups_of(connection, ids)) == 1_100


def test_an_unknown_sample_is_an_error_that_names_it(ledger, blobs):
    with ledger.read() as connection, pytest.raises(UnknownIdError, match=f"no sample {'0' * 64}"):
        load_samples(connection, blobs, ["0" * 64])


def test_a_sample_whose_payload_is_gone_is_an_error_and_no_empty_picture(ledger, blobs, store):
    ids = store(sample(1), payloads=False)
    with ledger.read() as connection, pytest.raises(UnknownIdError, match=f"no blob {ids[0]}"):
        load_samples(connection, blobs, ids)
