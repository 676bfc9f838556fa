"""A step that is killed at any of its commit points, and run again, comes to the same end.

The points are every transaction, just before and just after it is committed, and every blob that
was put: between them nothing outlives the process.
"""

from contextlib import contextmanager

import pytest
from sqlalchemy import func, select

from flywheel.blobs import Blobs
from flywheel.ledger import Ledger
from flywheel.ledger.judged import all_openings, last_challenge
from flywheel.ledger.releases import latest_checkpoint
from flywheel.ledger.tables import choices, failures, labeling_tasks, metadata
from flywheel.loop import begin_night
from flywheel.loop.judge import decide, evaluate
from flywheel.loop.retrain import retrain
from flywheel.loop.routing import route

REAL_BEGIN, REAL_PUT = Ledger.begin, Blobs.put
UNEVEN = {"locks", "reports"}
"""a report that was stored stays beside the next one, which counts: their latencies differ"""
GATE = {"min_fresh_samples": 5, "challenge_samples": 10}


class Killed(BaseException):
    """The process is gone."""


@contextmanager
def killed_at(monkeypatch, point):
    """Kill at a point, counted from 0; yields how many points are left."""
    left = [point]

    def strike():
        left[0] -= 1
        if left[0] == -1:
            raise Killed

    @contextmanager
    def begin(ledger):
        with REAL_BEGIN(ledger) as connection:
            yield connection
            strike()
        strike()

    def put(blobs, payload):
        key = REAL_PUT(blobs, payload)
        strike()
        return key

    with monkeypatch.context() as patch:
        patch.setattr(Ledger, "begin", begin)
        patch.setattr(Blobs, "put", put)
        yield left


def state(toy):
    """What is stored, but for names and times that differ from run to run."""
    with toy.loop.ledger.read() as connection:
        rows = {
            name: connection.execute(select(func.count()).select_from(table)).scalar_one()
            for name, table in metadata.tables.items()
            if name not in UNEVEN
        }
        wanted = (
            select(choices.c.sample_id, choices.c.share),
            select(failures.c.sample_id, failures.c.state),
            select(labeling_tasks.c.sample_id, labeling_tasks.c.state),
        )
        stored = [sorted(map(tuple, connection.execute(query))) for query in wanted]
        judged = all_openings(connection), last_challenge(connection)
        newest = latest_checkpoint(connection).digest
    there = sorted(task.key for task in toy.backend.tasks.values())
    return rows, stored, judged, newest, there


def _evaluate(night):
    return evaluate(night, retrain(night).candidate_digest)


def _decide(night):
    return decide(night, _evaluate(night).report_id)


STEPS = {
    "route": ("collect", lambda _: None, lambda night, _: route(night)),
    "retrain": ("ingest", lambda _: None, lambda night, _: retrain(night)),
    "evaluate": (
        "ingest",
        lambda night: retrain(night).candidate_digest,
        evaluate,
    ),
    "decide": (
        "ingest",
        lambda night: _evaluate(night).report_id,
        decide,
    ),
}
"""step -> the step before it, what is needed of those before it, and the step itself"""


def points_of(open_after, monkeypatch, name):
    """How many points the step has when nothing kills it, and what it leaves."""
    before, prepare, run = STEPS[name]
    with open_after(before, gate=GATE) as toy, begin_night(toy.loop) as night:
        known = prepare(night)
        with killed_at(monkeypatch, 1_000) as left:
            run(night, known)
        return 1_000 - left[0], state(toy)


@pytest.mark.parametrize(
    ("name", "least"), [("route", 4), ("retrain", 3), ("evaluate", 3), ("decide", 2)]
)
def test_killed_at_any_point_it_comes_to_the_same_end(open_after, monkeypatch, name, least):
    before, prepare, run = STEPS[name]
    number, whole = points_of(open_after, monkeypatch, name)
    assert number >= least
    for point in range(number):
        with open_after(before, gate=GATE) as toy, begin_night(toy.loop) as night:
            known = prepare(night)
            with pytest.raises(Killed), killed_at(monkeypatch, point):
                run(night, known)
            run(night, known)
            assert state(toy) == whole, f"killed at point {point} of {number}"
