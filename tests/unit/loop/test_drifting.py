"""A shift where answers fail: it is noticed on its slice, and its samples are asked about first."""

from contextlib import contextmanager
from dataclasses import replace
from typing import NamedTuple

import pytest

from flywheel.ledger.failures import chosen_of_batch, failures_in
from flywheel.loop import Loop
from flywheel.records import FailureState, FeedbackKind, Share
from flywheel.report.night.facts import read_facts
from flywheel.report.night.steps import drift_line
from flywheel.testing import draw_points, open_memory, toy_task

TRAIN = {"device": "cpu", "learning_rate": 0.1, "batch_size": 8, "steps": 30}


@pytest.fixture
def toy(tmp_path):
    with opened(tmp_path) as toy:
        yield toy


@contextmanager
def opened(folder):
    budget = {"samples_per_night": 20, "probability_share": 0.2}
    with open_memory(toy_task(), folder, train=TRAIN, labeling=budget) as toy:
        toy.night()
        yield toy


def turn(toy, number, fails):
    """A night whose 150 answers all come to an outcome; without annotations the model stays."""
    upper = toy.loop.task.slices["upper"]
    samples = draw_points(150, seed=number)[0]
    for place, prediction in enumerate(toy.serve(samples)):
        is_wrong = fails(place, upper(samples[place]))
        toy.give_feedback(prediction, FeedbackKind.OUTCOME, not is_wrong)
    return toy.night()


class Shifted(NamedTuple):
    """Three usual nights and one whose answers fail on a slice, for tests that change nothing."""

    loop: Loop
    usual: list
    before: list
    """failures that were seen before the shift"""
    moved: dict


@pytest.fixture(scope="module")
def shifted(tmp_path_factory):
    with opened(tmp_path_factory.mktemp("shifted")) as toy:
        usual = [turn(toy, number, lambda place, _: place % 20 == 0) for number in (1, 2, 3)]
        with toy.loop.ledger.read() as connection:
            before = failures_in(connection, FailureState.SEEN)
        moved = turn(toy, 4, lambda place, is_upper: is_upper and place % 2 == 0)
        yield Shifted(toy.loop, usual, before, moved)


def test_failures_on_a_slice_are_noticed_there_and_its_samples_become_suspects(shifted):
    assert not any(one["collect"].drift.is_alarm for one in shifted.usual)
    assert not any(signal.name == "shift" for one in shifted.before for signal in one.signals)

    drift = shifted.moved["collect"].drift
    assert "upper" in [one.name for one in drift.watches if one.is_alarm]
    assert "answers on upper fail more often, " in drift_line(drift)
    with shifted.loop.ledger.read() as connection:
        found = {one.sample_id: one for one in failures_in(connection, FailureState.SEEN)}
    suspects = [found[key] for key, _ in drift.where if key in found]
    assert suspects
    assert all("shift" in {signal.name for signal in one.signals} for one in suspects)


def test_what_the_shift_brought_is_chosen_more_often_and_nothing_is_rolled_back(shifted):
    moved = shifted.moved
    with shifted.loop.ledger.read() as connection:
        chosen = chosen_of_batch(connection, moved["route"].batch_id, Share.TARGETED, 50)
    assert (
        sum("shift" in {one.name for one in case.signals} for case in chosen) >= len(chosen) / 2 > 0
    )
    assert not moved["deploy"].swapped
    facts = read_facts(shifted.loop, 5)
    assert all("shift" in {one.name for one in case.signals} for case in facts.cases[:6])


def test_a_night_that_is_run_again_counts_the_same_outcomes(shifted):
    third = shifted.usual[2]["collect"].drift
    assert {one.name: one.num_reference for one in third.watches}[""] == 300
    assert {one.name: one.num_new for one in third.watches}[""] == 150


def test_without_slices_all_of_production_is_watched(toy):
    toy = replace(toy, loop=replace(toy.loop, task=replace(toy.loop.task, slices={})))
    for number in (1, 2, 3):
        night = draw_points(150, seed=number)[0]
        for place, prediction in enumerate(toy.serve(night)):
            toy.give_feedback(prediction, FeedbackKind.OUTCOME, number < 3 or place % 3 > 0)
        done = toy.night()
    assert [(one.name, one.is_alarm) for one in done["collect"].drift.watches] == [("", True)]
