"""The laws hold for answers that are quantities, too: nearly right is right enough to pass."""

import dataclasses
import json

import numpy as np
import pytest
import torch

from flywheel.checks import check_task
from flywheel.errors import AnnotationError
from flywheel.records import Answer, Sample
from flywheel.task import Task

replace = dataclasses.replace


def _answers(output: torch.Tensor) -> list[Answer]:
    return [
        Answer(value=row.tolist(), confidence=0.5, embedding=row.numpy()) for row in output.detach()
    ]


def _text(result: list[dict], _sample: Sample) -> list[float]:
    if not result:
        raise AnnotationError("an annotation is empty; write a length")
    return json.loads(result[0]["value"]["text"])


@pytest.fixture
def lengths(template_task) -> Task:
    """The digits again, read as a length in centimetres."""
    start = [replace(e, answer=[float(e.answer)]) for e in template_task.start_data()]
    return replace(
        template_task,
        model=lambda: torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 1)),
        targets=torch.tensor,
        loss=lambda output, target: ((output - target) ** 2).mean(dim=1),
        loss_not=None,
        answers=_answers,
        scores=lambda answer, label: {"error_cm": abs(answer[0] - label[0])},
        start_data=lambda: start,
        baselines={},
        labeling=replace(
            template_task.labeling,
            result=lambda answer, _: [{"id": "r", "value": {"text": json.dumps(answer)}}],
            answer=_text,
        ),
    )


def test_a_task_that_answers_with_a_quantity_keeps_every_law(lengths):
    assert check_task(lengths, np.random.default_rng(0)) == []


def test_an_answer_that_comes_back_nearly_as_it_went_keeps_every_law(lengths):
    """A picture has pixels: what a person draws back is never the very same number."""
    rounded = replace(
        lengths.labeling, answer=lambda result, sample: [_text(result, sample)[0] + 0.01]
    )
    near = {"labeling": rounded, "agree": lambda one, other: abs(one[0] - other[0]) < 0.1}
    assert check_task(replace(lengths, **near), np.random.default_rng(0)) == []
    [broken] = check_task(replace(lengths, labeling=rounded), np.random.default_rng(0))
    assert broken.law == "labeling answers come back as ones that agree"


def test_a_quantity_that_is_answered_upside_down_is_found(lengths):
    flipped = replace(lengths, targets=lambda labels: 9 - torch.tensor(labels))
    [broken] = check_task(flipped, np.random.default_rng(0))
    assert broken.law == "training on a few samples makes their answers right"
    assert "error_cm" in broken.why
