"""Which number to optimize, to threshold, to ignore: the lecture's three questions on known cases."""

import dataclasses

import pytest

from flywheel.evaluate import Context, suggest, unpack_book
from flywheel.ledger.codec import from_json


@pytest.fixture
def advise(measure, rules):
    """(**metric) -> advice by formula, from one report under that metric."""

    def run(**metric):
        settings = rules(**metric)
        evaluation = measure(settings=settings)
        book, written = unpack_book(evaluation.scores, evaluation.report.scores_digest)
        advice = suggest([(book, from_json(Context, written["context"]))], settings)
        return {one.formula: one for one in advice}

    return run


def test_a_number_short_of_its_requirement_that_moves_is_optimized(advise):
    advice = advise(optimize="error_cm.median", higher_is_better=False, require=("correct > 1.5",))
    assert advice["correct"].advice == "optimize"
    assert advice["correct"].distance == pytest.approx(1 / 3)
    assert "short of its requirement" in advice["correct"].reason


def test_a_met_requirement_is_kept_as_a_threshold(advise):
    one = advise(requirement=2.0, require=("latency_ms.p95 < 1000",))["latency_ms.p95"]
    assert (one.advice, one.bound) == ("threshold", 1000)
    assert one.distance < 0


def test_a_score_that_no_formula_uses_is_named_with_what_baselines_reach(advise):
    one = advise()["error_cm.median"]
    assert one.lower_is_better
    assert one.best_baseline is not None
    assert one.advice in {"threshold", "ignore for now"}


def test_what_is_reached_is_to_be_raised_or_exchanged(advise):
    assert "it has reached its requirement" in advise(requirement=0.5)["correct"].reason


def test_advice_says_what_it_rests_on(advise):
    for one in advise(requirement=0.5).values():
        assert one.value is not None
        assert dataclasses.asdict(one)["reason"]
