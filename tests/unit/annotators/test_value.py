import math

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from flywheel.annotators import Doubt, rank_second_opinions, weigh
from flywheel.annotators.again import Asking, _after_one_more, gain_of_answer, worth, worth_of_new

FAIR = Asking(reliability=0.8, alternatives=4.0)


def doubt(*chances, is_label=True, sample="s"):
    return Doubt(sample=sample, chances=chances, is_label=is_label)


@pytest.mark.parametrize(
    ("error", "alternatives", "expected"),
    [(0, 1, 1), (0, 9, 1), (0.25, 1, 0.25), (0.5, 1, 0), (0.9, 9, 0), (1, 1, 0)],
)
def test_a_clean_label_is_worth_one_and_a_guess_nothing(error, alternatives, expected):
    assert worth(error, alternatives) == pytest.approx(expected)


def test_noisy_labels_are_worth_as_many_clean_ones_as_they_say():
    """The mean of a score is known from n noisy labels as well as from n * worth clean ones."""
    rng, error, size = np.random.default_rng(0), 0.2, 400
    truth = rng.random((4000, size)) < 0.5
    noisy = truth ^ (rng.random(truth.shape) < error)
    found = (noisy.mean(axis=1) - error) / (1 - 2 * error)
    clean = truth[:, : round(size * worth(error, 1))].mean(axis=1)
    assert found.std() == pytest.approx(clean.std(), rel=0.05)


def test_what_may_be_answered_is_certain_to_be_something():
    for chances in ((), (0.8,), (0.5, 0.4), (0.2, 0.2, 0.2, 0.2, 0.2)):
        outcomes = _after_one_more(chances, FAIR)
        assert math.fsum(likely for likely, _ in outcomes) == pytest.approx(1)


@given(st.lists(st.floats(0.01, 1), min_size=1, max_size=4), st.floats(0.3, 0.95))
def test_one_more_answer_is_expected_to_leave_the_chances_as_they_are(weights, total):
    """Beliefs are a martingale."""
    chances = tuple(weight / math.fsum(weights) * total for weight in weights)
    outcomes = _after_one_more(chances, Asking(reliability=0.7, alternatives=9.0))
    for place, chance in enumerate(chances):
        mean = math.fsum(likely * after[place] for likely, after in outcomes)
        assert mean == pytest.approx(chance, abs=1e-9)


def test_one_answer_makes_a_label_that_is_right_as_often_as_its_person():
    assert worth_of_new(1, FAIR) == pytest.approx(worth(0.2, 4))


def test_the_worth_of_several_answers_is_that_of_simulated_ones():
    rng, asking, found = np.random.default_rng(1), Asking(reliability=0.7, alternatives=2.0), []
    odds = asking.reliability * 2 / (1 - asking.reliability)
    for _ in range(6000):
        answers = np.where(rng.random(3) < 0.7, 0, rng.integers(1, 3, 3))
        chances = odds ** np.bincount(answers, minlength=3)
        chances = np.sort(chances / chances.sum())[::-1]
        is_resolved = chances[0] >= 0.5 and chances[0] > chances[1]
        found.append(worth(1 - chances[0], 2) if is_resolved else 0.0)
    assert worth_of_new(3, asking) == pytest.approx(np.mean(found), abs=0.02)


def test_a_sure_label_gains_nothing_and_a_disputed_sample_much():
    assert abs(gain_of_answer(doubt(0.999), FAIR)) < 0.01
    assert gain_of_answer(doubt(0.48, 0.48, is_label=False), FAIR) > 0.5


def test_a_disputed_sample_that_cannot_resolve_yet_gains_nothing():
    strict = Asking(reliability=0.6, alternatives=4.0, resolved=0.99)
    assert gain_of_answer(doubt(0.4, 0.4, is_label=False), strict) == 0


@pytest.mark.parametrize(("num_answers", "again"), [(1, False), (3, True)])
def test_a_label_in_doubt_is_cheaper_to_mend_where_new_ones_cost_many_answers(num_answers, again):
    gain = gain_of_answer(doubt(0.6, 0.35), FAIR)
    assert (gain > worth_of_new(num_answers, FAIR) / num_answers) == again


def test_the_ranking_has_what_beats_a_new_sample_the_best_first(draw_crowd):
    crowd = weigh(draw_crowd([0.8] * 5)[0])
    doubts = [
        doubt(0.999, sample="sure"),
        doubt(0.45, 0.35, is_label=False, sample="torn"),
        doubt(0.49, 0.49, is_label=False, sample="tied"),
    ]
    assert rank_second_opinions(doubts, crowd, 3) == ["tied", "torn"]
    assert rank_second_opinions([], crowd, 3) == []


def test_before_anybody_answered_annotators_are_like_newcomers():
    crowd = weigh([])
    assert Asking.of(crowd).reliability == crowd.newcomers["random"]


def test_somebody_must_be_asked():
    with pytest.raises(ValueError, match="num_answers is 0; ask at least 1 annotator"):
        worth_of_new(0, FAIR)


@given(
    st.lists(st.floats(0, 1), max_size=5),
    st.floats(0, 1),
    st.floats(1, 50),
    st.booleans(),
)
@example([1.0, 5.392932449794064e-51], 5.697665961367648e-283, 1.0, False)  # a chance of 1e231
def test_a_gain_is_between_all_and_nothing(weights, reliability, alternatives, is_label):
    total = max(math.fsum(weights), 1.0)
    case = doubt(*(weight / total for weight in weights), is_label=is_label)
    asking = Asking(reliability=reliability, alternatives=alternatives)
    assert abs(gain_of_answer(case, asking)) <= 1 + 1e-9
    assert 0 <= worth_of_new(2, asking) <= 1
