"""What people submit: the truth, or by mistake another class."""

import numpy as np

from flywheel.examples.annotators import choosing_hand
from flywheel.examples.traffic import Arrival

ARRIVAL = Arrival(payload=b"x", media_type="text/plain", metadata={}, truth="b")


def chosen(letters, arrival, errs):
    hand = choosing_hand(lambda _: arrival, letters.task.labeling, "abc")
    return hand("sample", errs, np.random.default_rng(0))


def test_who_does_not_err_submits_the_truth(letters):
    result = chosen(letters, ARRIVAL, errs=False)
    assert letters.task.labeling.answer(result, ARRIVAL.sample) == "b"


def test_who_errs_submits_another_class(letters):
    result = chosen(letters, ARRIVAL, errs=True)
    assert letters.task.labeling.answer(result, ARRIVAL.sample) in {"a", "c"}


def test_without_a_truth_a_hand_skips(letters):
    assert chosen(letters, None, errs=False) is None
