import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flywheel.annotators import Judged, suspect_labels


def judged(agrees, confidence, name=None, sample="s"):
    return Judged(sample=sample, agrees=agrees, confidence=confidence, name=name)


def test_what_contradicts_above_the_models_usual_confidence_is_suspect_the_surest_first():
    usual = [judged(True, 0.7), judged(True, 0.9)] * 20
    against = [judged(False, confidence, sample=f"{confidence}") for confidence in (0.8, 0.9, 0.3)]
    found = suspect_labels([*usual, *against])
    assert [one.sample for one in found[:2]] == ["0.9", "0.8"]
    assert found[0].margin == pytest.approx(0.1)
    assert found[0].threshold == pytest.approx(0.8)


def test_as_many_are_suspect_as_are_contradicted_where_the_model_is_sure():
    """Two in ten of the sure ones are contradicted, so two in ten of all are mistakes."""
    sure = [judged(True, 0.9)] * 32 + [judged(False, 0.95, sample=f"sure {n}") for n in range(8)]
    unsure = [judged(True, 0.8)] * 32 + [judged(False, 0.5, sample=f"{n:02}") for n in range(28)]
    found = [one.sample for one in suspect_labels(sure + unsure)]
    assert len(found) == round(0.2 * 100)
    assert found[:8] == [f"sure {n}" for n in range(8)]
    assert found[8:] == [f"{n:02}" for n in range(12)]


def test_each_name_is_held_against_its_own_confidence_once_it_is_seen_often():
    sure, unsure = [judged(True, 0.95, "cat")] * 200, [judged(True, 0.6, "owl")] * 200
    cat, owl = judged(False, 0.7, "cat", "c"), judged(False, 0.7, "owl", "o")
    assert [one.sample for one in suspect_labels([*sure, *unsure, cat, owl])] == ["o"]


def test_a_name_seen_seldom_is_held_against_all():
    often, seldom = [judged(True, 0.9, "cat")] * 200, [judged(True, 0.3, "owl")]
    owl = judged(False, 0.5, "owl", "o")
    assert suspect_labels([*often, *seldom, owl]) == []


def test_a_model_that_agrees_with_nothing_makes_nothing_suspect():
    assert suspect_labels([judged(False, 0.99)] * 9) == []
    assert suspect_labels([]) == []


def test_a_mean_that_is_rounded_up_leaves_the_equal_ones_sure():
    equal = [judged(True, 0.8211924881670065)] * 3
    assert math.fsum([one.confidence for one in equal]) / 3 > equal[0].confidence
    assert suspect_labels(equal) == []


def test_a_confidence_must_be_a_number():
    with pytest.raises(ValueError, match="confidence on sample 's' is nan; only finite"):
        suspect_labels([judged(True, math.nan)])


@given(
    st.lists(
        st.tuples(st.booleans(), st.floats(0, 1), st.sampled_from(["a", "b", None])), max_size=30
    )
)
def test_only_contradicted_labels_are_suspect_and_the_largest_margins_come_first(rows):
    table = {f"{at}": judged(*row, sample=f"{at}") for at, row in enumerate(rows)}
    found = suspect_labels(list(table.values()))
    margins = [one.margin for one in found]
    assert margins == sorted(margins, reverse=True)
    assert not any(table[one.sample].agrees for one in found)


def test_wrong_labels_are_found_and_right_ones_mostly_left_alone():
    rng, rows = np.random.default_rng(0), []
    for number in range(1000):
        is_mistake, is_model_right = number < 100, rng.random() < 0.9
        confidence = rng.beta(8, 2) if is_model_right else rng.beta(4, 4)
        agrees = is_model_right != is_mistake
        rows.append(judged(agrees, confidence, sample=f"{number}"))
    found = [int(one.sample) < 100 for one in suspect_labels(rows)]
    assert sum(found) > 70
    assert np.mean(found) > 0.7
