"""The task under test: a small batch of its start data, a fresh model, an overfitted one.

What several laws need is computed once and kept here.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable
from dataclasses import fields
from functools import cached_property
from pathlib import Path
from typing import Any

import torch

from flywheel.checks.asking import batch_of
from flywheel.checks.fresh import Source
from flywheel.model import Model, seed_torch
from flywheel.records import Answer, Json, Sample, canonical
from flywheel.task import Example, Task

_BATCH = 16
_MAX_LABELS = 100
STEPS = 300
"""most steps of training when overfitting"""
_LEARNING_RATE = 3e-3
_PRODUCT = Path(__file__).parents[1]


def _is_ours(folder: Path) -> bool:
    return folder.is_relative_to(_PRODUCT) and not folder.is_relative_to(_PRODUCT / "examples")


class Subject:
    """A task under test, with what several laws need, computed on first use."""

    def __init__(self, task: Task, seed: int, source: Source | None = None) -> None:
        self.task = task
        self.seed = seed
        self.source = source
        self.own: Model | None = None
        """the model of a trainer of one's own, once it is trained"""
        self.artifact = b""
        """what that trainer left"""

    @cached_property
    def examples(self) -> list[Example]:
        """The start data."""
        if self.task.start_data is None:
            raise ValueError(
                "start_data is None; give the labeled data that the project begins with"
            )
        examples = list(self.task.start_data())
        if not examples:
            raise ValueError("start_data() is empty; yield at least a few labeled examples")
        return examples

    @cached_property
    def batch(self) -> list[Example]:
        """Up to 16 examples with as many different answers as possible."""
        first = {canonical(example.answer): example for example in reversed(self.examples)}
        taken = {example.sample.id for example in first.values()}
        others = [example for example in self.examples if example.sample.id not in taken]
        return [*list(first.values())[::-1][:_BATCH], *others][:_BATCH]

    @property
    def samples(self) -> list[Sample]:
        """The samples of the batch."""
        return [example.sample for example in self.batch]

    @property
    def labels(self) -> list[Json]:
        """The correct answers of the batch."""
        return [example.answer for example in self.batch]

    @property
    def some_examples(self) -> list[Example]:
        """One example of each different answer of the start data, up to 100."""
        unique = {canonical(example.answer): example for example in self.examples}
        return list(unique.values())[:_MAX_LABELS]

    @property
    def some_labels(self) -> list[Json]:
        """The different answers of the start data, up to 100."""
        return [example.answer for example in self.some_examples]

    @property
    def folders(self) -> list[Path]:
        """The folders of the user's code: those of the functions that the task consists of.

        Folders of installed packages are left out, unless the task itself is installed, and so are
        those of flywheel, but for its examples.
        """
        task = self.task
        parts = [getattr(task, field.name) for field in fields(task)]
        parts += [getattr(task.labeling, field.name) for field in fields(task.labeling)]
        functions = [inspect.unwrap(part) for part in parts if callable(part)]
        functions = [inspect.unwrap(getattr(part, "forward", part)) for part in functions]
        codes = [getattr(function, "__code__", None) for function in functions]
        folders = sorted({Path(code.co_filename).parent for code in codes if code is not None})
        folders = [folder for folder in folders if not _is_ours(folder)]
        return [folder for folder in folders if "site-packages" not in folder.parts] or folders

    def model(self) -> torch.nn.Module:
        """A fresh model, with the same weights at every call."""
        seed_torch(self.seed)
        return self.task.network()

    @cached_property
    def output(self) -> Any:
        """The output of an untrained model for the batch."""
        model = self.model().eval()
        with torch.no_grad():
            return model(batch_of(self.task, self.samples))

    @cached_property
    def fresh_answers(self) -> list[Answer]:
        """The answers of an untrained model to the batch."""
        return self.task.answers(self.output)

    def ask(self, model: torch.nn.Module) -> list[Answer]:
        """The answers of a model to the batch."""
        model.eval()
        with torch.no_grad():
            return self.task.answers(model(batch_of(self.task, self.samples)))

    def losses(self, model: torch.nn.Module) -> torch.Tensor:
        """(B,) the loss of each sample of the batch, with a gradient."""
        return self.task.loss(
            model(batch_of(self.task, self.samples)), self.task.targets(self.labels)
        )

    @cached_property
    def training(self) -> tuple[torch.nn.Module, float, float]:
        """A model that was trained on the batch alone, with the mean loss before and after."""
        model = self.model().train()
        optimizer = torch.optim.Adam(model.parameters(), lr=_LEARNING_RATE)
        inputs, targets = batch_of(self.task, self.samples), self.task.targets(self.labels)
        before = after = math.nan
        for step in range(STEPS):
            loss = self.task.loss(model(inputs), targets).mean()
            after = loss.item()
            before = after if step == 0 else before
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]  # torch leaves it untyped
            optimizer.step()
            if after < 0.01 * before:
                break
        return model, before, after

    @property
    def trained(self) -> torch.nn.Module:
        """A model that was trained on the batch alone, ready to answer."""
        return self.training[0].eval()


Law = Callable[[Subject], str | None]
"""None when the task keeps it, else what was found and what to do"""
