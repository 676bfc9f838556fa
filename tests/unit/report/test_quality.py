"""What the newest annotations say of the people, brought to the page of labeling."""

import dataclasses

import numpy as np
import pytest

from flywheel.annotate.queue import EVERYWHERE
from flywheel.report.labeling.facts import read_quality
from flywheel.testing import LedgerBuilder, choice_of


@pytest.fixture
def asked(loop):
    """Samples of which the model said "cat", every second one blind; and the crew."""
    crew = LedgerBuilder(loop.ledger)
    with crew.at_once():
        made = crew.predict(*[0.5] * 200)
        ids = [choice.sample_id for choice in crew.batch(map(choice_of, made)).choices]
        for shown in (True, False):
            crew.send(ids[shown::2], shown=shown)
    return crew, ids


def test_without_answers_nothing_is_found(loop):
    found = read_quality(loop)
    assert (found.overall, found.annotators, found.anchored, found.blinded) == (
        None,
        {},
        {},
        frozenset(),
    )


def test_who_takes_over_the_models_answer_is_found_and_who_does_not_is_not(loop, asked):
    crew, ids = asked
    with crew.at_once():
        for number, sample in enumerate(ids):
            is_shown = number % 2 == 1
            crew.answer(sample, "cleo", answer="cat" if is_shown or number % 4 == 0 else "dog")
            crew.answer(sample, "ada", answer="cat" if number % 3 else "dog")
    found = read_quality(loop)
    assert set(found.anchored) == {"cleo"}
    assert found.annotators["cleo"].difference == pytest.approx(0.5)
    assert abs(found.annotators["ada"].difference) < 0.05
    assert found.blinded == {EVERYWHERE}


def test_slices_are_told_apart(loop, asked):
    crew, ids = asked
    with crew.at_once():
        for number, sample in enumerate(ids):
            crew.answer(sample, "cleo", answer="cat" if number % 2 else "dog")
    slices = {"all of it": lambda _: True, "none of it": lambda _: False}
    sliced = dataclasses.replace(loop, task=dataclasses.replace(loop.task, slices=slices))
    found = read_quality(sliced)
    assert set(found.slices) == {"all of it"}
    assert found.blinded == {EVERYWHERE, "all of it"}


def test_who_guesses_is_found_though_every_other_answer_is_right(loop, asked):
    crew, ids = asked
    rng = np.random.default_rng(0)
    with crew.at_once():
        for sample in ids:
            truth = str(rng.choice(["cat", "dog"]))
            for person in ("ada", "ben", "cleo"):
                crew.answer(sample, person, answer=truth)
            crew.answer(sample, "zed", answer=str(rng.choice(["cat", "dog"])))
    assert read_quality(loop).guessing == {"zed"}
