"""Networks whose state is not what a file of weights keeps, and inputs that decode whatever comes."""

import contextlib
import io
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from worlds.flat import Plain

from flywheel.checks import check_task
from flywheel.records import Answer, Sample
from flywheel.task import Task


class _Late(Plain):
    """A network that makes a weight when it is first asked."""

    def forward(self, pixels: torch.Tensor) -> dict[str, torch.Tensor]:
        if not hasattr(self, "late"):
            self.late = torch.nn.Parameter(torch.zeros(1))
        return super().forward(pixels + self.late)


class _Lazy(Plain):
    def __init__(self) -> None:
        super().__init__()
        self[1] = torch.nn.LazyLinear(10)


class _Extra(Plain):
    def get_extra_state(self) -> dict[str, int]:
        return {"version": 2}

    def set_extra_state(self, state: dict[str, int]) -> None:
        pass


def _decoding(task: Task) -> Callable[[list[Sample]], torch.Tensor]:
    """Decodes whatever size a picture has, as Pillow does by itself."""

    def inputs(samples: list[Sample]) -> torch.Tensor:
        for sample in samples:
            with contextlib.suppress(OSError):
                Image.open(io.BytesIO(sample.payload)).load()
                return torch.zeros(len(samples), 8, 8)
        return task.inputs(samples)

    return inputs


@pytest.mark.parametrize(
    ("change", "what"),
    [
        ({"model": _Late}, "late appears in the first forward"),
        ({"model": _Lazy}, "1.weight has no size before the first forward"),
        ({"model": _Extra}, "_extra_state is a dict"),
        ({"inputs": _decoding}, "inputs() decoded a picture of 9,000 x 9,000 pixels"),
    ],
)
def test_what_the_field_has_shown_is_named(template_task, change, what):
    [(name, value)] = change.items()
    made = value(template_task) if name == "inputs" else value
    broken = check_task(replace(template_task, **{name: made}), np.random.default_rng(0))
    assert what in " ".join(one.why for one in broken)


def _surer(output: dict[str, torch.Tensor]) -> float:
    """What is a chance at first, and none once a network is trained."""
    return 2.1 if float(output["logits"].detach().abs().max()) > 2 else 0.5


def test_a_confidence_that_is_no_chance_after_training_is_named(template_task):
    def answers(output: dict[str, torch.Tensor]) -> list[Answer]:
        return [replace(one, confidence=_surer(output)) for one in template_task.answers(output)]

    [broken] = check_task(replace(template_task, answers=answers), np.random.default_rng(0))
    assert broken.why.startswith("after training a confidence is 2.1")
