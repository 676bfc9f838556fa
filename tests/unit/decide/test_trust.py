"""No promotion on the word of annotators of whom nothing is known."""

import pytest

from flywheel.decide.vetoes import without
from flywheel.records import Unmeasured, Verdict


def _of(name, labels, num_gold=0, num_gold_right=0):
    return Unmeasured(
        annotator=name, num_gold=num_gold, num_gold_right=num_gold_right, labels=tuple(labels)
    )


@pytest.mark.parametrize(
    ("unmeasured", "verdict", "reason"),
    [
        ((), "PROMOTE", "a gain above 0 in production is shown"),
        ([_of("eve", range(30))], "PROMOTE", "a gain above 0"),
        (
            [_of("eve", range(31))],
            "HOLD",
            "eve alone gave 31 of 60 fresh labels and answered 0 of 0",
        ),
        ([_of("eve", range(40), 3, 3)], "HOLD", "answered 3 of 3 gold questions right"),
        # Two accounts of one annotator, of whom each gave less than half.
        (
            [_of("eve", range(20, 45)), _of("mal", range(45, 60))],
            "HOLD",
            "2 annotators alone gave 40",
        ),
        ([_of("eve", range(20, 45), 3, 0), _of("mal", range(45, 60), 3, 1)], "HOLD", "1 of 6 gold"),
        # Many who each answer a little, and are measured together.
        ([_of("ann", range(20, 45), 3, 3), _of("bob", range(45, 60), 2, 2)], "PROMOTE", "a gain"),
    ],
)
def test_most_fresh_labels_rest_on_annotators_who_are_measured(judge, unmeasured, verdict, reason):
    decision = judge(unmeasured=tuple(unmeasured))
    assert decision.verdict is Verdict(verdict)
    assert reason in decision.reasons[0]


def test_the_labels_of_the_others_must_not_speak_against_a_gain(judge, outcomes):
    fresh = outcomes(30, 3, 40)  # three pairs of a win and a loss, 27 wins, then ties
    of_eve = _of("eve", range(6, 33))
    assert judge(fresh=fresh).verdict is Verdict.PROMOTE
    assert without(fresh, of_eve.labels).gains == (1.0, -1.0) * 3 + (0.0,) * 40
    assert judge(fresh=fresh, unmeasured=(of_eve,)).verdict is Verdict.HOLD


def test_a_promotion_that_is_held_leaves_the_challenge_open(judge):
    decision = judge(unmeasured=(_of("eve", range(60)),))
    assert not decision.closes_challenge
    assert any("shown" in reason for reason in decision.reasons)


def test_the_chance_says_what_it_assumes(judge):
    assert judge().reasons[0].endswith("with a chance of 0.02, if the labels are right")
