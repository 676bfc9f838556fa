"""Classes: torchmetrics and counting by hand say what is right."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from flywheel.errors import AnnotationError
from flywheel.metrics.compiled import compile_formula
from flywheel.scoring import calibration, classification, confusion_matrix, f1_score, per_class

CLASSES = ["ant", "bee", "cat", "dog", "eel"]
ORACLES = {
    "precision": "multiclass_precision",
    "recall": "multiclass_recall",
    "f1": "multiclass_f1_score",
}


@pytest.fixture(params=range(4))
def drawn(request):
    """Answers and labels, of which some classes are rare or missing; and their numbers."""
    rng = np.random.default_rng(request.param)
    labels = rng.integers(0, 5 - request.param % 2, 60)
    answers = np.where(rng.random(60) < 0.6, labels, rng.integers(0, 4, 60))
    names = [[CLASSES[number] for number in column.tolist()] for column in (answers, labels)]
    return *names, torch.tensor(answers), torch.tensor(labels)


def test_the_confusion_matrix_is_torchmetrics(drawn, torchmetrics):
    answers, labels, *numbers = drawn
    oracle = torchmetrics.classification.multiclass_confusion_matrix
    expected = oracle(*numbers, num_classes=5).numpy()
    np.testing.assert_array_equal(confusion_matrix(answers, labels, CLASSES), expected)


@pytest.mark.parametrize("name", ORACLES)
def test_each_class_is_measured_as_by_torchmetrics(drawn, name, torchmetrics):
    answers, labels, *numbers = drawn
    oracle = getattr(torchmetrics.classification, ORACLES[name])
    expected = oracle(*numbers, num_classes=5, average="none").numpy()
    found = [getattr(one, name) or 0.0 for one in per_class(answers, labels, CLASSES)]
    np.testing.assert_allclose(found, expected, atol=1e-6)


@pytest.mark.parametrize("name", ["precision", "recall", "f1", "accuracy"])
def test_the_short_names_of_classification_are_torchmetrics_macro_averages(
    drawn, name, torchmetrics
):
    answers, labels, *numbers = drawn
    kit = classification(CLASSES)
    rows = [kit(answer, label) for answer, label in zip(answers, labels, strict=True)]
    table = {column: np.array([row[column] for row in rows]) for column in rows[0]}
    found = compile_formula(kit.metrics[name], None)(table, np.ones((1, 60)))[0]
    if name == "accuracy":
        assert found == np.mean([a == b for a, b in zip(answers, labels, strict=True)])
    else:
        oracle = getattr(torchmetrics.classification, ORACLES[name])
        expected = oracle(*numbers, num_classes=5, average="macro")
        assert found == pytest.approx(float(expected), abs=1e-6)


def test_weights_are_counts():
    once = confusion_matrix("aab", "aba", "ab", np.array([2.0, 1.0, 3.0]))
    np.testing.assert_array_equal(once, confusion_matrix("aaabbb", "aabaaa", "ab"))
    assert per_class("aab", "aba", "ab", np.array([2.0, 1.0, 3.0])) == per_class(
        "aaabbb", "aabaaa", "ab"
    )


def test_what_cannot_be_measured_is_none():
    never, always = per_class(["b", "b"], ["b", "b"], ["a", "b"])
    assert (never.precision, never.recall, never.f1, never.support) == (None, None, None, 0.0)
    assert (always.precision, always.recall, always.f1, always.support) == (1.0, 1.0, 1.0, 2.0)
    assert f1_score(0, 0, 0) is None


def test_an_unknown_class_is_refused():
    with pytest.raises(AnnotationError, match="'fox' is no class of this task; give one of"):
        confusion_matrix(["fox"], ["ant"], CLASSES)
    with pytest.raises(ValueError, match="are not two or more different ones"):
        confusion_matrix([], [], ["a", "a"])


@pytest.mark.parametrize("bins", [5, 15])
def test_the_calibration_error_is_torchmetrics(bins, torchmetrics):
    rng = np.random.default_rng(bins)
    shares = rng.dirichlet(np.ones(4), 300)
    labels = np.array([rng.choice(4, p=row**0.5 / (row**0.5).sum()) for row in shares])
    expected = torchmetrics.classification.multiclass_calibration_error(
        torch.tensor(shares), torch.tensor(labels), num_classes=4, n_bins=bins
    )
    found = calibration(shares.max(axis=1), shares.argmax(axis=1) == labels, bins=bins)
    assert found.ece == pytest.approx(float(expected), abs=1e-6)
    assert sum(one.weight for one in found.bins) == 300


@given(
    sure=st.lists(st.sampled_from([0.0, 0.2, 0.4, 0.5, 1.0]), min_size=1, max_size=30),
    seed=st.integers(0, 99),
)
def test_bins_hold_every_answer_and_ece_lies_in_its_range(sure, seed):
    right = np.random.default_rng(seed).integers(0, 2, len(sure))
    found = calibration(sure, right, bins=5)
    assert 0 <= found.ece <= 1
    assert sum(one.weight for one in found.bins) == len(sure)
    for one in found.bins:
        assert one.confidence is None or one.low - 1e-12 <= one.confidence <= one.high + 1e-12
    assert calibration(sure * 2, np.tile(right, 2), bins=5).ece == pytest.approx(found.ece)


@pytest.mark.parametrize("sure", [[], [1.2], [np.nan]])
def test_confidences_outside_of_their_range_are_refused(sure):
    with pytest.raises(ValueError, match="give at least one, all of them in 0"):
        calibration(sure, [1] * len(sure))
