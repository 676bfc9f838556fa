import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flywheel.crowd import Judged, suspect_labels


def judged(agrees, confidence, name=None, sample="s"):
    return Judged(sample=sample, agrees=agrees, confidence=confidence, name=name)


def test_a_contradiction_is_suspect_from_the_models_usual_confidence_on():
    usual = [judged(True, 0.7), judged(True, 0.9)]
    below, at, above = (judged(False, 0.8 + by, sample=f"{by}") for by in (-0.01, 0.0, 0.1))
    found = suspect_labels([*usual, below, at, above])
    assert [one.sample for one in found] == ["0.1", "0.0"]
    assert found[0].margin == pytest.approx(0.1)
    assert found[0].threshold == pytest.approx(0.8)


def test_each_name_has_its_own_threshold_once_it_is_seen_often():
    sure, unsure = [judged(True, 0.95, "cat")] * 20, [judged(True, 0.6, "owl")] * 20
    cat, owl = judged(False, 0.7, "cat", "c"), judged(False, 0.7, "owl", "o")
    assert [one.sample for one in suspect_labels([*sure, *unsure, cat, owl])] == ["o"]


def test_a_name_seen_seldom_is_held_against_all():
    often, seldom = [judged(True, 0.9, "cat")] * 40, [judged(True, 0.3, "owl")] * 5
    owl = judged(False, 0.5, "owl", "o")
    assert suspect_labels([*often, *seldom, owl]) == []


def test_a_model_that_agrees_with_nothing_makes_nothing_suspect():
    assert suspect_labels([judged(False, 0.99)] * 9) == []
    assert suspect_labels([]) == []


def test_a_confidence_must_be_a_number():
    with pytest.raises(ValueError, match="confidence on sample 's' is nan; only finite"):
        suspect_labels([judged(True, math.nan)])


@given(
    st.lists(
        st.tuples(st.booleans(), st.floats(0, 1), st.sampled_from(["a", "b", None])), max_size=30
    )
)
def test_only_contradicted_labels_are_suspect_and_the_surest_come_first(rows):
    table = {f"{at}": judged(*row, sample=f"{at}") for at, row in enumerate(rows)}
    found = suspect_labels(list(table.values()))
    margins = [one.margin for one in found]
    assert margins == sorted(margins, reverse=True)
    assert all(not table[one.sample].agrees and one.margin >= 0 for one in found)


def test_wrong_labels_are_found_and_right_ones_mostly_left_alone():
    rng, rows = np.random.default_rng(0), []
    for number in range(1000):
        is_mistake, is_model_right = number < 100, rng.random() < 0.9
        confidence = rng.beta(8, 2) if is_model_right else rng.beta(4, 4)
        agrees = is_model_right != is_mistake
        rows.append(judged(agrees, confidence, sample=f"{number}"))
    found = [int(one.sample) < 100 for one in suspect_labels(rows)]
    assert sum(found) > 45
    assert np.mean(found) > 0.85
