"""The task under test: a small batch of its start data, a fresh model, an overfitted one.

What several laws need is computed once and kept here.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cached_property
from typing import Any

import torch

from flywheel.records import Answer, Json, Sample, canonical
from flywheel.task import Example, Task

_BATCH = 16
_MAX_LABELS = 100
STEPS = 300
"""most steps of training when overfitting"""
_LEARNING_RATE = 3e-3


class Subject:
    """A task under test, with what several laws need, computed on first use."""

    def __init__(self, task: Task, seed: int) -> None:
        self.task = task
        self.seed = seed

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

    def model(self) -> torch.nn.Module:
        """A fresh model, with the same weights at every call."""
        torch.manual_seed(self.seed)
        return self.task.model()

    @cached_property
    def output(self) -> Any:
        """The output of an untrained model for the batch."""
        model = self.model().eval()
        with torch.no_grad():
            return model(self.task.inputs(self.samples))

    @cached_property
    def fresh_answers(self) -> list[Answer]:
        """The answers of an untrained model to the batch."""
        return self.task.answers(self.output)

    def ask(self, model: torch.nn.Module) -> list[Answer]:
        """The answers of a model to the batch."""
        model.eval()
        with torch.no_grad():
            return self.task.answers(model(self.task.inputs(self.samples)))

    def losses(self, model: torch.nn.Module) -> torch.Tensor:
        """(B,) the loss of each sample of the batch, with a gradient."""
        return self.task.loss(model(self.task.inputs(self.samples)), self.task.targets(self.labels))

    @cached_property
    def overfitted(self) -> tuple[float, float, list[Answer]]:
        """Mean loss before and after training on the batch alone, and the answers after."""
        model = self.model().train()
        optimizer = torch.optim.Adam(model.parameters(), lr=_LEARNING_RATE)
        inputs, targets = self.task.inputs(self.samples), self.task.targets(self.labels)
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
        return before, after, self.ask(model)


Law = Callable[[Subject], str | None]
"""None when the task keeps it, else what was found and what to do"""
