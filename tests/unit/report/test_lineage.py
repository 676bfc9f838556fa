"""Where a model comes from; what the ledger does not hold is None."""

from flywheel.report.night.facts import checkpoint_of, versions_of


def test_versions_run_from_the_newest_to_its_parents(shared):
    with shared.loop.ledger.read() as connection:
        versions = versions_of(connection, shared.parent)
    assert versions[0].id == shared.parent
    assert [one.parent_id for one in versions[:-1]] == [one.id for one in versions[1:]]


def test_weights_that_were_brought_in_by_hand_have_no_record(shared):
    with shared.loop.ledger.read() as connection:
        assert checkpoint_of(connection, "f" * 64) is None
        assert checkpoint_of(connection, None) is None
        assert versions_of(connection, None) == ()
