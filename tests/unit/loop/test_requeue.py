"""What a new release makes of the samples that are still open."""

import dataclasses

import pytest
from sqlalchemy import select

from flywheel.blobs import Blobs
from flywheel.ledger.failures import failures_of
from flywheel.ledger.tables import labeling_tasks
from flywheel.loop.context import Loop, NightRun
from flywheel.loop.routing import requeue
from flywheel.project import Project
from flywheel.records import Answer, FailureState, Signal
from flywheel.testing import blank_checkpoint, choice_of

UNSURE = Signal(name="low_confidence", strength=0.5)
FAILED = Signal(name="outcome_contradiction", strength=0.8)


@pytest.fixture
def run(tmp_path, ledger, production, points_task):
    """A night of a project about points."""
    project = Project(directory=tmp_path, project={"name": "points", "task": "t:t"})
    blobs = Blobs.open(str(tmp_path / "blobs"))
    now = production.now
    loop = Loop(project=project, task=points_task, ledger=ledger, blobs=blobs, now=lambda: now)
    return NightRun(loop=loop, number=3, started_at=now)


@pytest.fixture
def choose(production):
    """Samples that wait to be labeled, each with the answer that the old model gave."""

    def put(samples, answers, signals=(UNSURE,), chance=None):
        given = [Answer(value=value, confidence=0.4, embedding=[]) for value in answers]
        made = production.serve(samples, given, model_digest="old")
        if signals:
            production.fail(made, *signals)
        chosen = [choice_of(one, chance) for one in made]
        ids = [choice.sample_id for choice in production.batch(chosen).choices]
        production.move(ids, FailureState.QUEUED)
        return ids

    return put


@pytest.fixture
def release(run, production):
    """Release the model of these weights."""

    def put(weights):
        digest = run.loop.blobs.put(weights)
        production.store(blank_checkpoint(digest=digest))
        production.release(digest)

    return put


@pytest.fixture
def states(run):
    """sample id -> state and priority of its labeling task."""

    def read():
        table = labeling_tasks.c
        query = select(table.sample_id, table.state, table.priority)
        with run.loop.ledger.read() as connection:
            return {row[0]: (row[1], row[2]) for row in connection.execute(query)}

    return read


def test_what_the_new_model_is_sure_of_is_withdrawn(
    run, choose, release, states, draw_points, line_weights
):
    samples, sides = draw_points(20, 1)
    choose(samples, sides)
    release(line_weights(50.0, 0.0))  # sure of all that is not on the line
    result = requeue(run, None)
    gone = [key for key, (state, _) in states().items() if state == "withdrawn"]
    assert result.num_withdrawn == len(gone) > 15
    with run.loop.ledger.read() as connection:
        failures = failures_of(connection, gone)
    assert {failure.state for failure in failures.values()} == {FailureState.SEEN}


def test_what_it_is_unsure_of_stays_with_a_new_priority(
    run, choose, release, states, draw_points, line_weights
):
    samples, sides = draw_points(20, 1)
    choose(samples, sides)
    release(line_weights(0.0, 0.0))  # always one half
    assert requeue(run, None).num_withdrawn == 0
    assert [one for _, one in states().values()] == pytest.approx([(0.7 - 0.5) / 0.7] * 20)


def test_a_failure_in_the_world_counts_as_long_as_the_answer_is_the_same(
    run, choose, release, states, draw_points, line_weights
):
    samples, sides = draw_points(40, 1)
    others = ["left" if side == "right" else "right" for side in sides]
    same = choose(samples[:20], sides[:20], (UNSURE, FAILED))
    changed = choose(samples[20:], others[20:], (UNSURE, FAILED))
    release(line_weights(1e4, 0.0))
    requeue(run, None)
    assert [states()[key][1] for key in same] == pytest.approx([0.8] * 20)
    assert {states()[key][0] for key in changed} == {"withdrawn"}


def test_what_was_drawn_by_chance_stays_whatever_the_model_says(
    run, choose, release, states, draw_points, line_weights
):
    samples, sides = draw_points(5, 1)
    choose(samples, sides, chance=0.5)
    release(line_weights(1e4, 0.0))
    assert requeue(run, None).num_withdrawn == 0
    assert {state for state, _ in states().values()} == {"waiting"}


def test_what_was_chosen_without_a_signal_waits_for_its_label(
    run, choose, release, states, draw_points, line_weights
):
    samples, sides = draw_points(8, 1)
    filled = choose(samples[:4], sides[:4], signals=())
    suspected = choose(samples[4:], sides[4:])
    release(line_weights(1e4, 0.0))
    assert requeue(run, None).num_withdrawn == 4
    assert {states()[key][0] for key in filled} == {"waiting"}
    assert {states()[key][0] for key in suspected} == {"withdrawn"}


def test_a_release_looks_once(run, choose, release, states, draw_points, line_weights):
    samples, sides = draw_points(10, 1)
    release(line_weights(1e4, 0.0))
    requeue(run, None)
    choose(samples, sides)
    assert requeue(dataclasses.replace(run, number=4), None).num_withdrawn == 0
    assert {state for state, _ in states().values()} == {"waiting"}
