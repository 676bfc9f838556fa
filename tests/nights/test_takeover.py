"""A challenge that stays open for ten nights, while candidates are trained on more and more labels."""

import itertools

import pytest
from sqlalchemy import select

from flywheel.decide import gate
from flywheel.ledger.datasets import get_version, read_manifest
from flywheel.ledger.judged import all_openings, get_decision, report_of_night
from flywheel.ledger.releases import get_checkpoint
from flywheel.ledger.tables import challenges
from flywheel.loop.replay import find_exhibit, replay
from flywheel.loop.steps import step_results
from flywheel.records import Split
from flywheel.testing import draw_points, open_memory, side_of, toy_task

NIGHTS = range(3, 13)
"""those with new labels"""
SETTINGS = {
    "train": {"device": "cpu", "learning_rate": 0.1, "batch_size": 8, "steps": 30},
    "labeling": {"samples_per_night": 20, "probability_share": 0.5},
    "quality": {"blind_share": 0.0},
    "gate": {"alpha": 1e-12, "min_fresh_samples": 5, "challenges": 6},
}


@pytest.fixture(scope="module")
def rolled(tmp_path_factory):
    """Ten nights in which no evidence suffices, nothing is vetoed and no challenge is given up."""
    folder = tmp_path_factory.mktemp("rolled")
    with pytest.MonkeyPatch.context() as patch, open_memory(toy_task(), folder, **SETTINGS) as toy:
        toy.night()
        patch.setattr(gate, "gives_up", lambda *_: "")
        patch.setattr(gate, "vetoes", lambda *_: [])
        patch.setattr(gate, "_significantly_worse", lambda _: [])
        toy.serve(draw_points(30, seed=100)[0])
        toy.night()
        for night in NIGHTS:
            toy.annotate(side_of)
            toy.serve(draw_points(30, seed=99 + night)[0])
            toy.night()
        patch.undo()
        yield toy


@pytest.fixture(scope="module")
def reports(rolled):
    with rolled.loop.ledger.read() as connection:
        return [report_of_night(connection, night) for night in NIGHTS]


def trained_on(toy, digest):
    with toy.loop.ledger.read() as connection:
        version = get_version(connection, get_checkpoint(connection, digest).dataset_id)
    rows = read_manifest(toy.loop.blobs, version.id)
    return {row.sample_id: row.origin for row in rows if row.split is Split.TRAIN}


def num_labels(toy, digest):
    return sum(origin != "start" for origin in trained_on(toy, digest).values())


def test_every_night_with_new_rows_trains(rolled):
    with rolled.loop.ledger.read() as connection:
        made = [step_results(connection, night)["retrain"][0] for night in NIGHTS]
    trained = [one.candidate_digest for one in made if one.device is not None]
    assert len(set(trained)) == len(trained) >= 8
    idle = [one.note for one in made if one.device is None]
    assert all(note.startswith("no new training labels; candidate") for note in idle)


@pytest.fixture(scope="module")
def stored(rolled):
    """All challenges, the oldest first."""
    with rolled.loop.ledger.read() as connection:
        return connection.execute(select(challenges).order_by(challenges.c.number)).all()


def test_a_candidate_with_twice_as_many_labels_opens_another_and_no_other_does(rolled, stored):
    assert len(stored) >= 3
    for before, after in itertools.pairwise(stored):
        old, new = (num_labels(rolled, one.challenger_digest) for one in (before, after))
        assert new >= 2 * old
        assert (after.number, after.took_over) == (before.number + 1, before.took_over + 1)
        assert after.alpha < before.alpha


def test_all_stay_open_and_the_furthest_is_judged(stored, reports):
    assert {row.closed_night for row in stored} == {None}
    opened = {row.opened_night: row.number for row in stored}
    assert [report.challenge.number for report in reports] != [
        opened.get(report.night, 1) for report in reports
    ]
    for report in reports:
        there = [row for row in stored if row.opened_night <= report.night]
        assert report.challenge.number in {row.number for row in there}


def test_each_is_judged_on_all_labels_that_were_opened(reports):
    counts = [len(report.fresh.gains) for report in reports]
    assert counts == sorted(counts)
    assert all(len(report.fresh.gains) == report.reuse.num_test for report in reports)


def test_no_candidate_is_judged_on_what_it_was_trained_on(rolled, reports):
    with rolled.loop.ledger.read() as connection:
        opened = all_openings(connection)
    for report in reports:
        tested = {name for name, one in opened.items() if one.serves(report.challenge)}
        assert tested.isdisjoint(trained_on(rolled, report.candidate_digest))


def test_reasons_say_what_was_taken_over(rolled, reports):
    for report in reports:
        with rolled.loop.ledger.read() as connection:
            [first, *_] = get_decision(connection, report.night).reasons
        number = report.challenge.number
        which = {1: "", 2: "challenge 1"}.get(number, f"challenges 1 to {number - 1}")
        assert (f"; it judges by the labels of {which} too" in first) is bool(which)


def test_each_nights_decision_is_replayed_byte_for_byte(rolled, monkeypatch):
    for name in ("gives_up", "_significantly_worse", "vetoes"):
        monkeypatch.setattr(gate, name, lambda *_, empty=name: "" if empty == "gives_up" else [])
    with rolled.loop.ledger.read() as connection:
        names = [get_decision(connection, night).id for night in NIGHTS]
    for name in names:
        exhibit = find_exhibit(rolled.loop, name)
        assert replay(exhibit, rolled.loop.project.directory).differences == ()
