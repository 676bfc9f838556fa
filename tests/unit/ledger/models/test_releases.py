import pytest
from sqlalchemy.exc import IntegrityError

from flywheel.ledger.releases import add_checkpoint, add_release, current_release, release_history


@pytest.fixture
def release(connection, checkpoint, night):
    """(digest, night) -> release that checkpoint."""

    def run(digest, number=0, threshold=None):
        add_checkpoint(connection, checkpoint(digest))
        return add_release(connection, digest, f"why {digest}", night(number), threshold)

    return run


def test_before_the_first_release_nothing_serves(connection):
    assert current_release(connection) is None
    assert release_history(connection) == []


def test_the_pointer_knows_its_previous(connection, release, night):
    release("a", 1)
    second = release("b", 2)
    assert (second.number, second.previous_digest) == (2, "a")
    assert (second.reason, second.created_at) == ("why b", night(2))
    assert current_release(connection) == second


def test_releasing_what_serves_adds_nothing(connection, release):
    assert release("a", 2) == release("a", 1)
    assert len(release_history(connection)) == 1


def test_going_back_is_a_release_of_its_own(connection, release):
    for digest in ("a", "b", "a"):
        release(digest)
    history = [(one.number, one.checkpoint_digest) for one in release_history(connection)]
    assert history == [(1, "a"), (2, "b"), (3, "a")]
    assert current_release(connection).previous_digest == "b"


def test_a_release_needs_its_checkpoint(connection, night):
    with pytest.raises(IntegrityError):
        add_release(connection, "nowhere", "why", night(0))


def test_a_release_carries_its_threshold(connection, release):
    assert release("a", threshold=0.25).threshold == 0.25
    assert current_release(connection).threshold == 0.25


def test_a_new_threshold_is_a_release_that_leads_back_to_the_model_before(connection, release):
    for digest, threshold in (("a", None), ("b", 0.5), ("b", 0.5), ("b", 0.75)):
        release(digest, threshold=threshold)
    history = [
        (one.number, one.threshold, one.previous_digest) for one in release_history(connection)
    ]
    assert history == [(1, None, None), (2, 0.5, "a"), (3, 0.75, "a")]
