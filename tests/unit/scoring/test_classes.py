"""Classes: torchmetrics and counting by hand say what is right."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from flywheel.errors import AnnotationError
from flywheel.metrics.compiled import compile_formula
from flywheel.scoring import calibration_error, classification, confusion_matrix

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
    found = calibration_error(shares.max(axis=1), shares.argmax(axis=1) == labels, bins=bins)
    assert found == pytest.approx(float(expected), abs=1e-6)


@given(
    sure=st.lists(st.sampled_from([0.0, 0.2, 0.4, 0.5, 1.0]), min_size=1, max_size=30),
    seed=st.integers(0, 99),
)
def test_the_calibration_error_lies_in_its_range_and_weights_are_counts(sure, seed):
    right = np.random.default_rng(seed).integers(0, 2, len(sure))
    found = calibration_error(sure, right, bins=5)
    assert 0 <= found <= 1
    twice = calibration_error(sure * 2, np.tile(right, 2), bins=5)
    assert twice == pytest.approx(found)
    assert calibration_error(sure, right, np.full(len(sure), 2.0), bins=5) == pytest.approx(found)


@pytest.mark.parametrize("sure", [[], [1.2], [np.nan]])
def test_confidences_outside_of_their_range_are_refused(sure):
    with pytest.raises(ValueError, match="give at least one, all of them in 0"):
        calibration_error(sure, [1] * len(sure))
