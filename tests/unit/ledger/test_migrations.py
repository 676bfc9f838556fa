"""A ledger from before there were campaigns comes through with everything, and goes on."""

from contextlib import closing

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import select

from flywheel.ledger import Ledger
from flywheel.ledger.campaigns import (
    EVERYONE,
    all_campaigns,
    begin_campaign,
    labeling_projects,
)
from flywheel.ledger.labeling import annotations_of, newest_labels
from flywheel.ledger.outbox import sent_in, waiting
from flywheel.ledger.requests import answers_asked
from flywheel.ledger.tables import annotations, labeling_tasks, metadata
from flywheel.ledger.windows import watermark


@pytest.fixture
def url(tmp_path):
    return f"sqlite:///{tmp_path}/old.db"


@pytest.fixture
def ids(url, write_old_ledger):
    """payload -> sample id."""
    return write_old_ledger(url)


@pytest.fixture
def ledger(url, ids):
    """The old ledger, opened."""
    with closing(Ledger.open(url)) as opened:
        yield opened


@pytest.fixture
def read(ledger):
    def run(function, *arguments):
        with ledger.begin() as connection:
            return function(connection, *arguments)

    return run


def rows_of(connection, table, column="sample_id"):
    return {getattr(row, column): row for row in connection.execute(select(table))}


def test_its_schema_is_that_of_a_new_one(ledger):
    with ledger.read() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        assert compare_metadata(context, metadata) == []


def test_each_project_is_a_campaign_that_takes_no_more(read):
    found = [one[1:] for one in read(all_campaigns)]
    assert found == [
        ("everyone", "project 7", 7, "full", 3),
        ("everyone", "project 9", 9, "full", 2),
    ]
    assert read(labeling_projects) == [7, 9]


def test_every_labeling_task_is_there_as_it_was(read, ids):
    projects = {one.id: one.external_project for one in read(all_campaigns)} | {None: None}
    rows = read(rows_of, labeling_tasks)
    found = {
        payload: (row.state, projects[row.campaign], row.external_id, row.note)
        for payload, row in ((payload, rows[key]) for payload, key in ids.items())
    }
    assert found == {
        "waiting": ("waiting", None, None, ""),
        "no picture": ("refused", None, None, "no picture"),
        "with people": ("sent", 7, 101, ""),
        "answered": ("done", 7, 102, ""),
        "deleted": ("refused", 7, 103, "deleted"),
        "answered twice": ("done", 9, 201, ""),
        "in the other": ("sent", 9, 202, ""),
    }


def test_what_was_sent_is_known_by_its_sample(read, ids):
    assert {row.key for campaign in (1, 2) for row in read(sent_in, campaign)} == {
        ids[payload]
        for payload in ("with people", "answered", "deleted", "answered twice", "in the other")
    }
    rows = read(rows_of, labeling_tasks)
    assert {payload for payload, key in ids.items() if rows[key].key is None} == {
        "waiting",
        "no picture",
    }


def test_a_labeling_task_has_what_its_choice_says(read, ids):
    row = read(rows_of, labeling_tasks)[ids["in the other"]]
    assert (row.purpose, row.people, row.shown, row.priority) == ("choice", 1, True, 0.6)
    assert (row.night, row.created_at.day, row.sent_at.day) == (1, 2, 8)
    assert [read(answers_asked, night) for night in (0, 1)] == [3, 2]


def test_every_annotation_is_there_and_on_its_labeling_task(read, ids):
    places = {row.id: row.labeling_task for row in read(rows_of, annotations, "id").values()}
    assert places == {"a0": "1/102", "a1": "1/102", "a2": "2/201", "a3": "2/201", "a4": "1/101"}
    rows = read(rows_of, annotations, "id")
    assert {row.purpose for row in rows.values()} == {"choice"}
    assert [key for key, row in rows.items() if row.deleted_at] == ["a1"]
    found = read(annotations_of, [ids["answered"], ids["answered twice"]])
    assert [(one.id, one.annotator, one.answer) for one in found] == [
        ("a0", "1", "b"),
        ("a2", "1", "b"),
        ("a3", "2", "b"),
    ]


def test_labels_and_watermarks_are_as_they_were(read, ids):
    assert set(read(newest_labels, list(ids.values()))) == {ids["answered"], ids["answered twice"]}
    assert read(watermark, "label studio project 7") == 1_767_924_000_000_000


def test_what_waits_is_sent_to_a_new_campaign(read, ids, production):
    assert [row.sample_id for row in read(waiting)] == [ids["waiting"]]
    begun = read(begin_campaign, EVERYONE, "flywheel: toy 3", production.now)
    assert (begun.id, begun.state) == (3, "open")
    assert [one.state for one in read(all_campaigns)] == ["full", "full", "open"]


def test_opened_again_nothing_changes(read, url):
    before = read(rows_of, labeling_tasks), read(rows_of, annotations, "id")
    Ledger.open(url).close()
    assert (read(rows_of, labeling_tasks), read(rows_of, annotations, "id")) == before
