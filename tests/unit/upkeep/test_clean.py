"""What may be forgotten is forgotten, and nothing that anything refers to ever is."""

import os
from contextlib import contextmanager

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import func, select

from flywheel.blobs import Blobs
from flywheel.errors import BusyError
from flywheel.ledger.datasets import read_manifest
from flywheel.ledger.engine import Ledger
from flywheel.ledger.locks import hold
from flywheel.ledger.retention import needed_blobs
from flywheel.ledger.samples import load_samples
from flywheel.ledger.tables import (
    challenges,
    dataset_versions,
    decisions,
    feedback,
    metadata,
    predictions,
    reports,
    samples,
    skips,
    watermarks,
)
from flywheel.upkeep import clean, cleaning

DEEDS = (
    "predict",
    "predict_again",
    "late_word",
    "gather",
    "label",
    "train",
    "release",
    "challenge",
)
MUCH = ["predict", "gather", "label", "train", "release", "predict", "gather", "train", "train"]
KEPT_WHOLE = (dataset_versions, decisions, reports, challenges)
ALL = {"unused_days": 10, "checkpoints": 2, "pages_days": 10}


@pytest.fixture(autouse=True)
def few_stay(monkeypatch):
    """Canaries want a thousand predictions, and these pasts are short."""
    monkeypatch.setattr(cleaning, "NEWEST_PREDICTIONS", 2)


def rows(ledger, table):
    with ledger.read() as connection:
        return set(map(repr, connection.execute(select(table))))


def counts(cleaned):
    return {one.what: one.number for one in cleaned.swept}


def assert_sound(past):
    """Every reference resolves, down to the bytes."""
    with past.ledger.read() as connection:
        assert connection.exec_driver_sql("PRAGMA foreign_key_check").all() == []
        ids = list(connection.execute(select(samples.c.id)).scalars())
        assert len(load_samples(connection, past.blobs, ids)) == len(ids)
        for version in connection.execute(select(dataset_versions.c.id)).scalars():
            assert {row.sample_id for row in read_manifest(past.blobs, version)} <= set(ids)
        for digest in needed_blobs(connection):
            past.blobs.get(digest)
        is_open = challenges.c.closed_night.is_(None)
        for challenger in connection.execute(select(challenges).where(is_open)):
            past.blobs.get(challenger.challenger_digest)
        for log, name in ((predictions, "predictions"), (feedback, "feedback")):
            mark = select(watermarks.c.seq).where(watermarks.c.name == f"{name} collected")
            newest = connection.execute(select(func.max(log.c.seq))).scalar() or 0
            assert newest >= (connection.execute(mark).scalar() or 0), "a number would come again"


def unread(past):
    """Numbers of rows that are not collected yet."""
    with past.ledger.read() as connection:
        found = []
        for log, name in ((predictions, "predictions"), (feedback, "feedback")):
            mark = select(watermarks.c.seq).where(watermarks.c.name == f"{name} collected")
            after = connection.execute(mark).scalar() or 0
            found.append(set(connection.execute(select(log.c.seq).where(log.c.seq > after))))
        return found


@settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    deeds=st.lists(st.sampled_from(DEEDS), max_size=14),
    days=st.integers(1, 60),
    newest=st.integers(2, 4),
)
def test_whatever_the_past_every_reference_still_resolves(make_past, deeds, days, newest):
    past = make_past().do(deeds)
    past.keep(unused_days=days, checkpoints=newest)
    before = [rows(past.ledger, table) for table in KEPT_WHOLE]
    waiting = unread(past)
    promised = counts(clean(past.loop, dry_run=True))
    assert counts(clean(past.loop)) == promised
    assert_sound(past)
    assert [rows(past.ledger, table) for table in KEPT_WHOLE] == before
    assert unread(past) == waiting
    assert set(counts(clean(past.loop)).values()) == {0}, "a second cleaning finds nothing"
    past.ledger.close()


def test_a_dry_run_changes_nothing(make_past):
    past = make_past().do(MUCH)
    past.keep(**ALL)
    before = [rows(past.ledger, table) for table in metadata.sorted_tables]
    files = sorted(one.name for one in past.blobs.stored())
    assert counts(clean(past.loop, dry_run=True))["predictions"] > 0
    assert [rows(past.ledger, table) for table in metadata.sorted_tables] == before
    assert sorted(one.name for one in past.blobs.stored()) == files


def test_what_nothing_refers_to_goes_with_its_payload(make_past):
    past = make_past().do(MUCH)
    past.keep(**ALL)
    num_blobs = len(list(past.blobs.stored()))
    went = counts(clean(past.loop))
    assert went["samples"] > 0
    assert len(list(past.blobs.stored())) == num_blobs - went["orphan blobs"] - went["weights"]


def test_without_settings_only_orphan_blobs_go(make_past):
    past = make_past().do(MUCH)
    past.blobs.put(b"nobody names this")
    assert counts(clean(past.loop)) == {"orphan blobs": 1}
    assert_sound(past)


def test_weights_of_old_candidates_go_and_leave_their_reason(make_past):
    past = make_past().do(["train"] * 5)
    past.keep(checkpoints=2)
    assert counts(clean(past.loop))["weights"] == 3
    with past.ledger.read() as connection:
        said = list(connection.execute(select(skips.c.reason)).scalars())
    assert said == ["its weights were dropped by retention.checkpoints = 2"] * 3


def test_the_weights_of_a_challenge_that_is_open_stay(make_past):
    past = make_past().do(["train", "challenge", "train", "train", "train"])
    past.keep(checkpoints=2)
    assert counts(clean(past.loop))["weights"] == 1
    assert_sound(past)


def test_a_sample_that_comes_again_stays_as_long_as_it_comes(make_past):
    past = make_past().do([*["predict_again"] * 30, "gather"])
    past.keep(unused_days=40)
    went = counts(clean(past.loop))
    assert went["predictions"] > 0
    assert went["samples"] == 0


def test_old_pages_of_nights_go_and_the_others_stay(make_past):
    past = make_past()
    past.keep(pages_days=10)
    folder = past.loop.project.state / "reports"
    folder.mkdir()
    for name in ("night-0001.html", "labeling.html"):
        (folder / name).write_text("page")
        os.utime(folder / name, (0, 0))
    assert counts(clean(past.loop))["pages"] == 1
    assert [path.name for path in folder.iterdir()] == ["labeling.html"]


@pytest.mark.parametrize("transactions", range(1, 8))
def test_killed_between_any_two_pieces_it_is_sound_and_goes_on(
    make_past, monkeypatch, transactions
):
    past = make_past().do(MUCH)
    past.keep(**ALL)
    promised = counts(clean(past.loop, dry_run=True))
    monkeypatch.setattr("flywheel.ledger.retention._PIECE", 2)
    monkeypatch.setattr(Ledger, "begin", _begin_until(transactions, Ledger.begin))
    with pytest.raises(KeyboardInterrupt):
        clean(past.loop)
    monkeypatch.undo()
    monkeypatch.setattr(cleaning, "NEWEST_PREDICTIONS", 2)
    assert_sound(past)
    clean(past.loop)
    assert_sound(past)
    assert promised["predictions"] > 0
    assert set(counts(clean(past.loop)).values()) == {0}


def _begin_until(number, begin):
    """A `begin` that ends the command after so many transactions, but lets locks go."""
    left = [number + 2]  # two locks are taken first

    @contextmanager
    def limited(self):
        left[0] -= 1
        if left[0] == -1:
            raise KeyboardInterrupt
        with begin(self) as connection:
            yield connection

    return limited


def test_while_a_back_up_is_being_made_nothing_is_dropped(make_past, monkeypatch):
    past = make_past()
    with hold(past.ledger, "the back-up", past.loop.now), monkeypatch.context() as other:
        other.setattr("flywheel.ledger.locks._me", lambda: "elsewhere:1:a")
        with pytest.raises(BusyError, match="the back-up is held by"):
            clean(past.loop)


def test_a_blob_that_is_put_again_is_young_again(make_past):
    past = make_past()
    digest = past.blobs.put(b"twice")
    listed = next(one for one in past.blobs.stored() if one.name == digest)
    os.utime(past.folder / ".flywheel/blobs" / digest[:2] / digest, (0, 0))
    old = next(one for one in past.blobs.stored() if one.name == digest)
    past.blobs.put(b"twice")
    assert not past.blobs.remove(old), "it was written since it was listed"
    assert listed.changed_at > old.changed_at
    assert Blobs.open(str(past.folder / ".flywheel/blobs")).get(digest) == b"twice"
