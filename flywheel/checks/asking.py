"""Asks a model about the same samples in several ways, and finds the layer that answers otherwise.

An answer may depend on its sample alone: not on who else is in the batch, on how often or in which
order the model is asked, nor on the process. All ways are compared with one batch of all samples.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch

from flywheel.batches import map_tensors, tensors_of
from flywheel.records import Answer, Json, Sample
from flywheel.task import Task

ROUNDING = 1e-3
"""what rounding may change: one row of a matrix product is summed in another order than sixteen"""


def ask(
    task: Task, module: torch.nn.Module, samples: Sequence[Sample], size: int, device: str = "cpu"
) -> list[Answer]:
    """The answers to samples that are asked about `size` at a time."""
    answers: list[Answer] = []
    with torch.no_grad():
        for start in range(0, len(samples), size):
            inputs = batch_of(task, samples[start : start + size], device)
            answers += task.answers(module.to(device).eval()(inputs))
    return answers


def batch_of(task: Task, samples: Sequence[Sample], device: str = "cpu") -> Any:
    """What a network is called with for samples: a tensor, or a tree of tensors."""
    return map_tensors(lambda one: one.to(device), task.batched(task.inputs(samples)))


def first_difference(
    task: Task, ones: Sequence[Answer], others: Sequence[Answer], close: float = ROUNDING
) -> int | None:
    """The first sample whose two answers differ by more than rounding; None when none do.

    One sample may have two values under one confidence and one embedding: it lies between them.
    """
    ties = []
    for place, (one, other) in enumerate(zip(ones, others, strict=True)):
        embeddings = (
            torch.as_tensor(one.embedding).double(),
            torch.as_tensor(other.embedding).double(),
        )
        if abs(one.confidence - other.confidence) > close or not _alike(*embeddings, close):
            return place
        if not _near(one.value, other.value, close) and not task.agree(one.value, other.value):
            ties.append(place)
    return ties[0] if len(ties) > 1 or (ties and len(ones) == 1) else None


def _near(one: Json, other: Json, close: float) -> bool:
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(_near(one[k], other[k], close) for k in one)
    if isinstance(one, list) and isinstance(other, list):
        pairs = zip(one, other, strict=False)
        return len(one) == len(other) and all(_near(a, b, close) for a, b in pairs)
    if isinstance(one, int | float) and isinstance(other, int | float):
        return math.isclose(one, other, rel_tol=close, abs_tol=close**2)
    return bool(one == other)


def _alike(one: torch.Tensor, other: torch.Tensor, close: float = ROUNDING) -> bool:
    if one.shape != other.shape:
        return False
    size = float(one.abs().nan_to_num(posinf=0, neginf=0).max()) if one.numel() else 0.0
    return torch.allclose(one, other, rtol=close, atol=close * size + 1e-6, equal_nan=True)


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Event:
    """What went into a layer or came out of it, for one sample."""

    layer: str
    """its dotted name; empty for the whole model"""
    is_input: bool
    rows: tuple[torch.Tensor, ...]
    """the sample's row of every tensor that has one"""


def trace(module: torch.nn.Module, inputs: Any, row: int) -> tuple[list[Event], Exception | None]:
    """What each layer of a model got and gave for one row, in order, and the error that ended it."""
    events: list[Event] = []
    number = len(next(tensors_of(inputs)))

    def note(layer: str, value: Any, *, is_input: bool) -> None:
        rows = tuple(
            tensor[row].detach().double().clone()
            for tensor in tensors_of(value)
            if tensor.shape[:1] == (number,) and not tensor.is_complex()
        )
        events.append(Event(layer=layer, is_input=is_input, rows=rows))

    with _watched(module.eval(), note), torch.no_grad():
        try:
            module(inputs)
        except Exception as error:  # noqa: BLE001  the user's network may raise anything
            return events, error
    return events, None


def culprit(module: torch.nn.Module, ones: Sequence[Event], others: Sequence[Event]) -> str | None:
    """The part of a model at which two traces begin to differ; None when they do not."""
    for one, other in zip(ones, others, strict=False):
        if (one.layer, one.is_input) != (other.layer, other.is_input):
            return named(module, one.layer.rpartition(".")[0])
        same = len(one.rows) == len(other.rows)
        if not same or not all(_alike(*pair) for pair in zip(one.rows, other.rows, strict=True)):
            return _at(module, one)
    return None


def unfinished(module: torch.nn.Module, events: Sequence[Event]) -> str:
    """The innermost part of a model that was called and did not return."""
    calls: list[str] = []
    for event in events:
        if event.is_input:
            calls.append(event.layer)
        else:
            calls.remove(event.layer)
    return named(module, calls[-1] if calls else "")


def equal(one: Any, other: Any) -> bool:
    """Whether two batches of inputs are equal."""
    pairs = zip(tensors_of(one), tensors_of(other), strict=True)
    return all(torch.equal(*pair) for pair in pairs)


def writer(module: torch.nn.Module, inputs: Any) -> str | None:
    """The part of a model that first changes its inputs in place; None when none does."""
    before, found = map_tensors(torch.clone, inputs), list[Event]()

    def note(layer: str, _value: Any, *, is_input: bool) -> None:
        if not found and not equal(inputs, before):
            found.append(Event(layer=layer, is_input=is_input, rows=()))

    with _watched(module.eval(), note), torch.no_grad():
        module(inputs)
    return _at(module, found[0]) if found else None


def named(module: torch.nn.Module, layer: str) -> str:
    """A part of a model as text: the layer with its type, or the forward() that holds the fault."""
    part = module.get_submodule(layer)
    kind = type(part).__name__
    if not layer or next(part.children(), None) is not None:
        return f"forward() of {kind}"
    return f"the layer {layer!r} ({kind})"


def _at(module: torch.nn.Module, event: Event) -> str:
    """What is to blame when an event is the first one that differs."""
    if not event.is_input or not event.layer:
        return named(module, event.layer)
    parent = module.get_submodule(event.layer.rpartition(".")[0])
    return f"forward() of {type(parent).__name__}, before it calls {event.layer!r}"


@contextmanager
def _watched(module: torch.nn.Module, note: Callable[..., None]) -> Iterator[None]:
    """Call `note` with every layer's input and output while the model runs in the block."""
    handles = []
    for name, part in module.named_modules():

        def before(_part: Any, given: Any, name: str = name) -> None:
            note(name, given, is_input=True)

        def after(_part: Any, _given: Any, output: Any, name: str = name) -> None:
            note(name, output, is_input=False)

        handles += [part.register_forward_pre_hook(before), part.register_forward_hook(after)]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
