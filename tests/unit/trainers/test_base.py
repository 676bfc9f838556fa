"""The answers of a classifier, from what its network returns."""

import math

import pytest
import torch

from flywheel.trainers import class_answers


def test_the_answer_of_a_classifier_is_its_most_likely_class_with_its_chance():
    logits = torch.tensor([[0.0, 3.0], [50.0, -50.0]], requires_grad=True)
    first, second = class_answers(["cat", "dog"], logits, torch.eye(2, dtype=torch.float64))
    assert (first.value, second.value, second.confidence) == ("dog", "cat", 1.0)
    assert first.confidence == pytest.approx(1 / (1 + math.exp(-3)))
    assert second.embedding.tolist() == [0, 1]
