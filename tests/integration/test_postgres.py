"""The ledger on a real PostgreSQL, started for these tests on a free port of loopback."""

import os
import subprocess
import sys
import threading
import time
from contextlib import closing
from datetime import UTC, datetime

import numpy as np
import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from postgres import new_database
from sqlalchemy import func, select, text

from flywheel.collect import collect
from flywheel.errors import BusyError
from flywheel.ledger import Ledger
from flywheel.ledger.annotations import Returned, save_annotations
from flywheel.ledger.annotators import Cut, recent_work, spent_since
from flywheel.ledger.campaigns import EVERYONE, begin_campaign, lose_campaign
from flywheel.ledger.datasets import add_labels, current_labels
from flywheel.ledger.failures import failures_in
from flywheel.ledger.locks import hold, holder_of
from flywheel.ledger.nights import add_skip, skips_of
from flywheel.ledger.outbox import Asked, Planned, enqueue, mark_sent, plan, send_again, waiting
from flywheel.ledger.predictions import Logged, append_feedback, append_predictions, feedback_id
from flywheel.ledger.progress import count_by_campaign, gold_answers, measure_queue
from flywheel.ledger.requests import (
    answers_asked,
    answers_open,
    ask_more,
    asked_in,
    finish_requests,
    open_requests,
)
from flywheel.ledger.rollouts import (
    Rollout,
    Shadowed,
    Stage,
    add_counts,
    add_shadowed,
    begin_rollout,
    end_rollout,
    next_stage,
    outcomes_since,
    running_rollout,
)
from flywheel.ledger.samples import Placed, add_samples
from flywheel.ledger.segments import Entry, Segment, take_in
from flywheel.ledger.tables import metadata, predictions, samples
from flywheel.records import (
    Annotation,
    FailureState,
    Feedback,
    FeedbackKind,
    Label,
    Prediction,
    Purpose,
    Sample,
    Split,
)
from flywheel.select import select_batch
from flywheel.settings.labeling import LabelingSettings

pytestmark = pytest.mark.integration

HOLDER = """
import os, sys, time
from datetime import UTC, datetime
from flywheel.ledger import Ledger, locks
with locks.hold(Ledger.open(sys.argv[1]), "the loop", lambda: datetime.now(UTC)):
    if not sys.argv[2] or not os.fork():
        print("held", flush=True)
    time.sleep(float(sys.argv[3]))
"""
NOW = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.fixture
def url(postgres_server, request):
    """A new database."""
    return new_database(postgres_server, f"db{abs(hash(request.node.nodeid))}")


@pytest.fixture
def ledger(url):
    with closing(Ledger.open(url)) as opened:
        yield opened


def logged(name, confidence=0.1, sample=None):
    sample = sample or Sample.of(name.encode(), "text/plain")
    prediction = Prediction(
        id=name,
        sample_id=sample.id,
        answer={"is": name},
        confidence=confidence,
        embedding=np.zeros(3),
        latency_ms=1.0,
        model_digest="d" * 64,
        created_at=NOW,
    )
    split = Split.TEST if int(sample.id, 16) % 2 else Split.TRAIN
    return Logged(sample=sample, group=sample.id, split=split, prediction=prediction)


def write(ledger, *entries):
    with ledger.begin() as connection:
        append_predictions(connection, entries)


def say(ledger, name, value=False):
    kind = FeedbackKind.OUTCOME
    entry = Feedback(
        id=feedback_id(name, kind, value),
        prediction_id=name,
        kind=kind,
        value=value,
        created_at=NOW,
    )
    with ledger.begin() as connection:
        append_feedback(connection, [entry])


def together(*works):
    """Run each in a thread of its own; the errors that came out of them."""
    errors = []

    def guarded(work):
        try:
            work()
        except Exception as error:  # noqa: BLE001  # the test looks at whatever it is
            errors.append(error)

    threads = [threading.Thread(target=guarded, args=[work]) for work in works]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]
    return errors


def test_the_migrated_schema_is_that_of_the_tables(ledger):
    with ledger.read() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        assert compare_metadata(context, metadata) == []


def test_many_that_open_a_new_ledger_at_once_all_succeed(url):
    """Two created the same tables."""
    assert together(*[lambda: Ledger.open(url).close()] * 6) == []


def test_watermarks_miss_nothing_while_four_threads_append(ledger, monkeypatch):
    monkeypatch.setattr("flywheel.ledger.windows._PIECE", 7)
    found, writing = [], threading.Event()

    def append(thread):
        for number in range(50):
            names = [f"{thread}-{number}-{index}" for index in range(3)]
            write(ledger, *map(logged, names))
            say(ledger, names[0])

    def read():
        while not writing.is_set():
            found.append(collect(ledger, 0.7, 0, NOW))

    reader = threading.Thread(target=read)
    reader.start()
    errors = together(*[lambda thread=thread: append(thread) for thread in range(4)])
    writing.set()
    reader.join()
    found.append(collect(ledger, 0.7, 0, NOW))
    assert errors == []
    assert sum(one.num_predictions for one in found) == 600
    assert sum(one.num_feedback for one in found) == 200
    with ledger.read() as connection:
        assert len(failures_in(connection, FailureState.SEEN)) == 600


def test_a_writer_that_commits_late_is_not_passed_over(ledger):
    fast = threading.Thread(target=write, args=[ledger, logged("fast")])
    with ledger.begin() as slow:
        append_predictions(slow, [logged("slow")])
        fast.start()
        fast.join(1)
        early = collect(ledger, 0.7, 0, NOW)
    fast.join()
    assert early.num_predictions + collect(ledger, 0.7, 0, NOW).num_predictions == 2


def test_feedback_is_counted_by_rows_although_duplicates_burn_numbers(ledger):
    write(ledger, logged("one"), logged("two"))
    for name in ("one", "one", "one", "two"):
        say(ledger, name)
    assert collect(ledger, 0.7, 0, NOW).num_feedback == 2


def test_one_new_sample_that_many_see_first_is_stored_once(ledger):
    """Start data and traffic could collide, and one of the two was lost."""
    sample = Sample.of(b"shared", "text/plain")

    def start_data():
        with ledger.begin() as connection:
            add_samples(connection, [Placed(sample, "g", Split.TRAIN)], NOW)

    traffic = [lambda name=f"p{n}": write(ledger, logged(name, sample=sample)) for n in range(6)]
    assert together(*traffic, *[start_data] * 6) == []
    with ledger.read() as connection:
        assert connection.execute(select(func.count()).select_from(samples)).scalar() == 1
        assert connection.execute(select(func.count()).select_from(predictions)).scalar() == 6


def test_of_many_connections_that_find_a_lock_free_one_gets_it(ledger, monkeypatch):
    """Two inserted the same row, and a driver's error came out in place of who holds it."""
    monkeypatch.setattr("flywheel.ledger.locks._me", _holder)
    inside, start = [], threading.Barrier(6)

    def enter():
        start.wait()
        with hold(ledger, "the loop", lambda: NOW):
            inside.append(1)
            time.sleep(1.0)

    errors = together(*[enter] * 6)
    assert len(inside) == 1
    assert [type(error) for error in errors] == [BusyError] * 5


def _holder():
    """Each thread as a process of its own."""
    return f"host-{threading.get_ident()}:1:1.0"


@pytest.mark.parametrize("forks", ["", "a child"])
def test_the_lock_of_a_process_that_was_killed_is_free_at_once(ledger, url, forks):
    with subprocess.Popen(
        [sys.executable, "-c", HOLDER, url, forks, "10"], stdout=subprocess.PIPE, text=True
    ) as process:
        process.stdout.readline()
        with ledger.read() as connection:
            assert f":{process.pid}:" in holder_of(connection, "the loop")
        with pytest.raises(BusyError, match=f":{process.pid}:"), hold(ledger, "the loop", _now):
            pass
        process.kill()
        with hold(ledger, "the loop", _now, patience_seconds=2), ledger.read() as connection:
            assert f":{os.getpid()}:" in holder_of(connection, "the loop")
    with ledger.read() as connection:
        assert holder_of(connection, "the loop") is None


def _now():
    return NOW


def _end_sessions(ledger):
    """As a server does that starts anew."""
    with ledger.begin() as connection:
        others = "FROM pg_locks WHERE locktype = 'advisory' AND granted"
        connection.execute(text(f"SELECT pg_terminate_backend(pid) {others}"))
    time.sleep(0.2)


def test_a_holder_that_lost_its_session_has_its_lock_back_when_nobody_came(ledger):
    with hold(ledger, "the loop", _now) as held:
        _end_sessions(ledger)
        with ledger.begin() as connection:
            assert holder_of(connection, "the loop") is None
            held.check(connection)
            assert holder_of(connection, "the loop") == held.holder


@pytest.mark.parametrize("is_over", [False, True])
def test_a_holder_that_lost_its_session_to_another_commits_nothing(ledger, monkeypatch, is_over):
    """Whether the other is at work yet, or has ended."""
    with hold(ledger, "the loop", _now) as held:
        _end_sessions(ledger)
        with monkeypatch.context() as other:
            other.setattr("flywheel.ledger.locks._me", lambda: "elsewhere:1:a")
            with hold(ledger, "the loop", _now):
                if not is_over:
                    with pytest.raises(BusyError, match="elsewhere"), ledger.begin() as mine:
                        held.check(mine)
        with pytest.raises(BusyError, match="no longer held"), ledger.begin() as connection:
            held.check(connection)


def test_a_batch_keeps_to_its_budget_and_is_stored_once(ledger):
    write(ledger, *[logged(f"p{n}", 0.3) for n in range(40)])
    collect(ledger, 0.7, 0, NOW)
    settings = LabelingSettings(samples_per_night=10)
    sizes = [
        len(select_batch(ledger, settings, seed=0, night=0, now=NOW, drawn_from=Split.TEST).choices)
        for _ in range(2)
    ]
    assert sizes == [10, 0]


def test_labels_are_read_newest_first_and_withdrawn_ones_not_at_all(ledger):
    one, two = logged("one"), logged("two")
    write(ledger, one, two)
    said = [(one, {"x": 1}), (two, "b"), (one, {"x": 2}), (two, None)]
    with ledger.begin() as connection:
        add_labels(connection, [_label(entry, answer) for entry, answer in said], NOW)
        ((label, _),) = current_labels(connection)
    assert (label.sample_id, label.answer) == (one.sample.id, {"x": 2})


def _label(entry, answer):
    return Label(
        sample_id=entry.sample.id,
        answer=answer,
        reliability=1.0,
        num_annotations=1,
        source="annotators",
    )


def test_texts_longer_than_their_columns_are_cut_and_not_refused(ledger):
    with ledger.begin() as connection:
        add_skip(connection, "s" * 300, "r" * 900, 0, NOW)
        assert skips_of(connection, 0) == [("s" * 200, "r" * 500)]


def test_what_is_gone_waits_again_with_its_second_opinions(ledger):
    entry = logged("one")
    write(ledger, entry)
    asked = Asked(sample_id=entry.sample.id, purpose=Purpose.CHOICE, num_annotators=3, priority=0.5)
    with ledger.begin() as connection:
        enqueue(connection, [asked], 0, NOW)
        begin_campaign(connection, EVERYONE, "flywheel: toy", NOW)
        plan(connection, {(entry.sample.id, Purpose.CHOICE): Planned(1, "k" * 64, True)})
        mark_sent(connection, {"k" * 64: 5}, {"k" * 64: {"key": "k"}}, {"k" * 64: 0.5}, NOW)
        ask_more(connection, [entry.sample.id], Purpose.CHOICE, "disputed", 0, NOW)
        finish_requests(connection, open_requests(connection), NOW)
        assert open_requests(connection) == []
        send_again(connection, ["k" * 64])
        mark_sent(connection, {"k" * 64: 6}, {}, {}, NOW)
        assert [one.num_annotators for one in open_requests(connection)] == [4]
        assert lose_campaign(connection, 1) == 1
        assert [row.num_annotators for row in waiting(connection)] == [3]
        assert answers_asked(connection, 0) == 4


def test_work_and_what_is_still_asked_for_are_counted_as_on_sqlite(ledger):
    entry = logged("one")
    write(ledger, entry)
    key, sample_id = "k" * 64, entry.sample.id
    asked = Asked(sample_id=sample_id, purpose=Purpose.CHOICE, num_annotators=3, priority=0.5)
    with ledger.begin() as connection:
        enqueue(connection, [asked], 4, NOW)
        begin_campaign(connection, EVERYONE, "flywheel: toy", NOW)
        plan(connection, {(sample_id, Purpose.CHOICE): Planned(1, key, True)})
        mark_sent(connection, {key: 5}, {}, {}, NOW)
        ask_more(connection, [sample_id], Purpose.CHOICE, "disputed", 6, NOW)
        given = [_given(entry, "ada", 500.0), _given(entry, "ben", 20.0, skipped=True)]
        save_annotations(connection, {"1/5": (sample_id, Purpose.CHOICE, given)}, NOW)
        assert answers_open(connection) == {Purpose.CHOICE: 3}
        assert asked_in(connection, 6) == {Purpose.CHOICE: 1}
        cuts, cut = {"ada": Cut(60.0, 10.0)}, Cut(90.0, 30.0)
        spent = spent_since(connection, NOW, cuts, cut)
        assert [(one.annotator, one.seconds) for one in spent] == [("ada", 10.0), ("ben", 20.0)]
        assert [one.is_given for one in recent_work(connection, 5)] == [True, False]
        assert measure_queue(connection)[:3] == (0, 1, NOW)
        assert count_by_campaign(connection) == {1: {"sent": 1}}
        assert gold_answers(connection, 5) == []


def _given(entry, person, seconds, *, skipped=False):
    annotation = Annotation(
        id=f"{person}'s",
        sample_id=entry.sample.id,
        annotator=person,
        answer=None if skipped else "cat",
        skipped=skipped,
        lead_time_seconds=seconds,
        updated_at=NOW,
    )
    return Returned(annotation=annotation, refused=None, labeling_task="1/5")


def test_segments_are_taken_in_once_by_several_at_once(ledger, url, tmp_path):
    for part in range(8):
        segment = Segment(tmp_path)
        entries = [Entry(row=logged(f"{part}-{n}"), fault="nan") for n in range(50)]
        segment.append(entries)
        segment.close()
    with closing(Ledger.open(url)) as other:
        threads = [
            threading.Thread(target=take_in, args=(one, tmp_path))
            for one in (ledger, other, ledger)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert list(tmp_path.iterdir()) == []
    with ledger.read() as connection:
        assert connection.execute(select(func.count()).select_from(predictions)).scalar_one() == 400


def test_a_rollout_is_counted_moved_on_and_ended(ledger):
    now = datetime.now(UTC)
    stages = (
        Stage(kind="shadow", share=1.0, seconds=1),
        Stage(kind="canary", share=0.5, seconds=1),
    )
    planned = Rollout(
        number=0,
        digest="d" * 64,
        threshold=None,
        champion_digest="c" * 64,
        reason="r",
        stages=stages,
        min_requests=1,
        limits={"errors": 0.1},
        stage=0,
        stage_began_at=now,
        created_at=now,
    )
    said = Shadowed(
        prediction_id="p",
        answer=None,
        confidence=0.0,
        latency_ms=1.0,
        differs=False,
        fault="failed",
        created_at=now,
    )
    with ledger.begin() as connection:
        begun = begin_rollout(connection, planned)
        add_counts(connection, begun, {"requests": 3})
        add_counts(connection, running_rollout(connection, locks=True), {"requests": 4, "slow": 1})
        add_shadowed(connection, begun, [said])
    with ledger.begin() as connection:
        found = running_rollout(connection, locks=True)
        assert (found.counts, found.stages) == ({"requests": 7, "slow": 1}, stages)
        assert outcomes_since(connection, found.digest, now) == (0, 0)
        next_stage(connection, found, now)
        end_rollout(connection, running_rollout(connection), "aborted", "bad", now)
        assert running_rollout(connection) is None
