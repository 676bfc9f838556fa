"""Campaigns: opened, filled, found in Label Studio, and lost with all that was open in them."""

import pytest
from sqlalchemy import select

from flywheel.ledger.annotations import annotations_of
from flywheel.ledger.campaigns import (
    EVERYONE,
    EXPERTS,
    all_campaigns,
    begin_campaign,
    found_project,
    labeling_projects,
    lose_campaign,
)
from flywheel.ledger.outbox import Planned, plan, sent_in, update_by_key, waiting
from flywheel.ledger.tables import labeling_tasks
from flywheel.records import Purpose


@pytest.fixture
def run(ledger):
    def within(function, *arguments):
        with ledger.begin() as connection:
            return function(connection, *arguments)

    return within


@pytest.fixture
def rows(ledger):
    """The labeling tasks by sample."""

    def read():
        with ledger.read() as connection:
            return {row.sample_id: row for row in connection.execute(select(labeling_tasks))}

    return read


def test_a_new_ledger_has_none(run):
    assert (run(all_campaigns), run(labeling_projects)) == ([], [])


def test_a_campaign_begins_open_empty_and_without_a_project(run, crew):
    begun = run(begin_campaign, EVERYONE, "flywheel: toy", crew.now)
    assert run(all_campaigns) == [begun]
    assert begun == (1, "everyone", "flywheel: toy", None, "open", 0)


def test_the_next_one_closes_those_before_it_of_its_own_audience(run, crew):
    for audience, title in ((EVERYONE, "one"), (EXPERTS, "two"), (EVERYONE, "three")):
        run(begin_campaign, audience, title, crew.now)
    assert [one.state for one in run(all_campaigns)] == ["full", "open", "open"]


def test_a_campaign_counts_all_that_was_ever_planned_for_it(run, crew):
    ids = crew.ask(4)
    crew.ask(ids[:1], purpose=Purpose.REVIEW)
    crew.ask(1, sent=False)
    run(update_by_key, {"state": "refused"}, dict.fromkeys([run(sent_in, 1)[0].key]))
    assert [one.num_labeling_tasks for one in run(all_campaigns)] == [4, 1]


def test_the_projects_in_which_everyone_labels_are_told_oldest_first(run, crew):
    for number, audience in enumerate((EVERYONE, EXPERTS, EVERYONE, EVERYONE, EVERYONE), 1):
        run(begin_campaign, audience, f"campaign {number}", crew.now)
        if number != 5:
            run(found_project, number, 10 - number)
    run(lose_campaign, 3)
    assert run(labeling_projects) == [9, 6]


def test_a_lost_campaign_gives_back_what_it_had_not_finished(run, rows, crew):
    done, aside, sent, planned = crew.ask(4)
    states = {done: "done", aside: "refused", planned: "waiting"}
    keys = {row.sample_id: row.key for row in run(sent_in, 1)}
    for sample_id, state in states.items():
        run(update_by_key, {"state": state}, {keys[sample_id]: None})
    before = rows()
    assert run(lose_campaign, 1) == 2
    assert run(all_campaigns)[0].state == "lost"
    after = rows()
    assert {key: after[key] for key in (done, aside)} == {key: before[key] for key in (done, aside)}
    for key in (sent, planned):
        row = after[key]
        assert (row.state, row.campaign, row.key, row.external_id) == ("waiting", None, None, None)
        assert (row.place, row.data, row.sent_at, row.seen_at) == (None, None, None, None)


def test_what_annotators_answered_in_a_lost_campaign_stays_and_need_not_be_asked_again(run, crew):
    (one,) = crew.ask(1, num_annotators=3)
    crew.answer(one, "ann")
    crew.answer(one, "bob", skipped=True)
    run(lose_campaign, 1)
    assert [given.annotator for given in run(annotations_of, [one])] == ["ann"]
    assert [row.num_annotators for row in run(waiting)] == [2]


def test_nobody_is_left_to_ask_and_one_is_asked_all_the_same(run, crew):
    """It had not been finished, whatever the reason: nobody is no number of people."""
    (one,) = crew.ask(1)
    for person in ("ann", "bob"):
        crew.answer(one, person)
    run(lose_campaign, 1)
    assert [row.num_annotators for row in run(waiting)] == [1]


def test_other_campaigns_keep_what_is_theirs(run, rows, crew):
    (one,) = crew.ask(1)
    crew.ask([one], purpose=Purpose.REVIEW)
    run(lose_campaign, 1)
    with_experts = [row for row in run(sent_in, 2) if row.state == "sent"]
    assert [row.sample_id for row in with_experts] == [one]


def test_a_key_belongs_to_one_labeling_task(run, crew):
    one, two = crew.ask(2, sent=False)
    begun = run(begin_campaign, EVERYONE, "toy", crew.now)
    run(plan, {(one, Purpose.CHOICE): Planned(begun.id, "k" * 64, True)})
    with pytest.raises(Exception, match=r"(?i)unique"):
        run(plan, {(two, Purpose.CHOICE): Planned(begun.id, "k" * 64, True)})
