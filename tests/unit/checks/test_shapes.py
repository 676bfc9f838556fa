"""A wrong shape somewhere in the task is reported once, with the line of the user's file."""

import dataclasses
import inspect
import re

import numpy as np
import pytest
import torch

from flywheel.checks import check_task

replace = dataclasses.replace


class _Narrow(torch.nn.Module):
    """Takes 60 numbers, where the inputs have 64."""

    def __init__(self) -> None:
        super().__init__()
        self.last = torch.nn.Linear(60, 10)

    def forward(self, pixels: torch.Tensor) -> dict[str, torch.Tensor]:
        return {"logits": self.last(pixels.flatten(1))}


SHAPES = {
    "the model takes what inputs() gives": {"model": _Narrow},
    "answers() are JSON, one a sample": {
        "answers": lambda output: output["logits"] @ torch.ones(3)
    },
    "targets() are a tensor, one row a label": {
        "targets": lambda labels: torch.ones(3) @ torch.ones(4)
    },
    "loss() is one finite number a sample": {
        "loss": lambda output, target: output["logits"] @ torch.ones(3)
    },
}


@pytest.mark.parametrize(("law", "changes"), SHAPES.items(), ids=SHAPES)
def test_a_wrong_shape_is_reported_once_under_the_function_it_is_in(template_task, law, changes):
    """The model was to blame, and the laws named the loss, the answers and the gradient."""
    broken = check_task(replace(template_task, **changes), np.random.default_rng(0))
    assert [one.law for one in broken] == [law]
    assert re.match(r"test_shapes\.py:\d+: .*(mat|size|tensors)", broken[0].why)


def test_the_line_in_the_users_file_is_reported_and_not_torchs(template_task):
    task = replace(template_task, model=_Narrow)
    [broken] = check_task(task, np.random.default_rng(0))
    line = inspect.getsourcelines(_Narrow.forward)[1] + 1
    said = "mat1 and mat2 shapes cannot be multiplied (16x64 and 60x10)"
    assert broken.why == f"test_shapes.py:{line}: {said}"
