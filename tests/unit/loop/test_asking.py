"""What a person queues by hand: within the budget, with a reason, and never at the cost of the random share."""

import pytest
from sqlalchemy import select

from flywheel.errors import BusyError
from flywheel.ledger.tables import choices, labeling_tasks, requests
from flywheel.ledger.windows import move_watermark
from flywheel.loop import asking
from flywheel.loop.asking import queue_for_annotation, send_to_review
from flywheel.records import Split
from flywheel.testing import LedgerBuilder, choice_of, draw_points, open_memory, toy_task

SECTIONS = {"labeling": {"samples_per_night": 8, "probability_share": 0.5}}
EXPERTS = {**SECTIONS, "annotators": {"deep_experts": ["eve"]}}


@pytest.fixture
def opened(tmp_path):
    """Settings -> the loop and its past."""
    stack = []

    def start(**sections):
        manager = open_memory(toy_task(), tmp_path, **sections or SECTIONS)
        loop = manager.__enter__().loop
        stack.append(manager)
        return loop, LedgerBuilder(loop.ledger, loop.blobs)

    yield start
    for manager in stack:
        manager.__exit__(None, None, None)


def drawn(loop, seq=1_000):
    """The random share has been drawn up to a place."""
    with loop.ledger.begin() as connection:
        move_watermark(connection, "selected", seq)


def rows_of(loop, table):
    with loop.ledger.read() as connection:
        return connection.execute(select(table)).all()


def test_samples_are_queued_with_their_reason_and_never_twice(opened):
    loop, past = opened()
    one, other = (made.sample_id for made in past.predict(0.9, 0.3))
    drawn(loop)
    found = queue_for_annotation(loop, [one, other, one], "chosen by hand: odd")
    assert (found.queued, found.left_out, found.left) == ((one, other), {}, 2)
    assert {row.reason for row in rows_of(loop, choices)} == {"chosen by hand: odd"}
    assert [row.state for row in rows_of(loop, labeling_tasks)] == ["waiting"] * 2
    again = queue_for_annotation(loop, [one], "odd")
    assert again.left_out == {one: "it was chosen before"}


def test_no_more_than_the_targeted_share_of_the_budget_is_queued(opened):
    loop, past = opened()
    ids = [made.sample_id for made in past.predict(*[0.5] * 6)]
    drawn(loop)
    found = queue_for_annotation(loop, ids, "odd")
    assert (list(found.queued), found.left) == (ids[:4], 0)
    assert all("budget of 4 answers is used up" in why for why in found.left_out.values())


def test_what_the_random_share_has_not_seen_or_that_can_only_test_is_left_to_it(opened):
    loop, past = opened()
    (early,) = past.predict(0.5)
    (tests,) = past.predict(0.5, split=Split.TEST)
    drawn(loop, 2)
    (late,) = past.predict(0.5)
    found = queue_for_annotation(
        loop, [early.sample_id, tests.sample_id, late.sample_id, "f" * 64], "odd"
    )
    assert found.queued == (early.sample_id,)
    assert found.left_out == {
        tests.sample_id: "its group can only test, so only the random draw may choose it",
        late.sample_id: "the random share is drawn first; choose it after the next night",
        "f" * 64: "production has not seen it",
    }


def labeled(past):
    (made,) = past.predict(0.5)
    past.batch([choice_of(made)])
    past.send([made.sample_id])
    past.answer(made.sample_id, "ada", answer="left")
    past.finish([made.sample_id])
    past.label([made.sample_id], answer="left")
    return made.sample_id


def test_a_wrong_label_goes_to_the_experts_first_in_line_with_the_reason(opened):
    loop, past = opened(**EXPERTS)
    sample_id, (bare,) = labeled(past), past.predict(0.4)
    found = send_to_review(loop, [sample_id, bare.sample_id], "called wrong: upside down")
    assert (found.queued, found.left_out) == ((sample_id,), {bare.sample_id: "it has no label"})
    (task,) = [row for row in rows_of(loop, labeling_tasks) if row.purpose == "review"]
    assert (task.priority, task.note) == (1.0, "called wrong: upside down")
    again = send_to_review(loop, [sample_id], "again")
    assert again.left_out == {sample_id: "the experts were asked before"}


def test_without_experts_one_more_annotator_is_asked(opened):
    loop, past = opened()
    sample_id = labeled(past)
    assert send_to_review(loop, [sample_id], "called wrong: no").queued == (sample_id,)
    (row,) = rows_of(loop, requests)
    assert (row.sample_id, row.num_annotators, row.reason) == (sample_id, 1, "called wrong: no")


def test_a_night_that_runs_comes_first(opened, monkeypatch):
    loop, past = opened()
    (made,) = past.predict(0.5)

    def busy(_):
        raise BusyError("the loop is held by another process")

    monkeypatch.setattr(asking, "between_nights", busy)
    with pytest.raises(BusyError):
        queue_for_annotation(loop, [made.sample_id], "odd")
    assert rows_of(loop, choices) == []


def test_what_was_queued_is_sent_by_the_next_night(tmp_path):
    with open_memory(toy_task(), tmp_path, **SECTIONS) as project:
        project.night()
        served = project.serve(draw_points(6, 3)[0])
        drawn(project.loop)
        found = queue_for_annotation(project.loop, [one.sample_id for one in served], "odd")
        assert found.queued
        project.night()
        sent = {str(kept.data["sample_id"]) for kept in project.backend.tasks.values()}
        assert sent >= set(found.queued)
