"""A model, that is a network with its weights or what a trainer left: read and asked in one way everywhere.

The model server and the evaluation answer through the same code, so that what is measured
is what serves. Weights are safetensors, which load without pickle and so run no code.
"""

from __future__ import annotations

import random
import shutil
import tempfile
import weakref
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.torch
import torch
from safetensors import SafetensorError
from threadpoolctl import threadpool_limits

from flywheel.batches import map_tensors, num_rows
from flywheel.calls import blamed, copied, guard, is_json
from flywheel.errors import SettingsError, TaskError
from flywheel.records import Answer, Json, Sample, content_id
from flywheel.task import Task
from flywheel.trainers.base import Predict, Trainer, unpack


def weights_of(module: torch.nn.Module) -> bytes:
    """The weights as the bytes of a safetensors file; equal weights give equal bytes."""
    # Cloned: safetensors refuses layers that share one weight, and on loading both get it back.
    state = {
        name: value.detach().cpu().contiguous().clone()
        for name, value in module.state_dict().items()
    }
    return safetensors.torch.save(state)


def load_weights(module: torch.nn.Module, weights: bytes, *, grown: bool = False) -> None:
    """Put the weights of a safetensors file into a module.

    Args:
        module: the network.
        weights: the bytes of the file.
        grown: whether tensors of the network may have more rows, which then stay as they are.

    Raises:
        TaskError: the bytes are no safetensors file, or belong to another network.
    """
    try:
        state = safetensors.torch.load(weights)
        if grown:
            state = _fill(state, module.state_dict())
        module.load_state_dict(state)
    except (SafetensorError, RuntimeError) as error:
        raise TaskError(
            f"the checkpoint does not fit the network that task.model() returns: "
            f"{' '.join(str(error).split())}; undo the change of the network"
        ) from error


def has_grown(module: torch.nn.Module, weights: bytes) -> list[str]:
    """The tensors that have more rows than the weights, if all others fit; else nothing."""
    old, new = safetensors.torch.load(weights), module.state_dict()
    if old.keys() != new.keys() or any(not _is_grown(old[name], new[name]) for name in new):
        return []
    return [
        name for name in sorted(new) if len(old[name].shape) and len(new[name]) > len(old[name])
    ]


def _is_grown(old: torch.Tensor, new: torch.Tensor) -> bool:
    if old.shape == new.shape:
        return True
    return bool(old.dim() and new.dim()) and old.shape[1:] == new.shape[1:] and len(new) > len(old)


def _fill(old: dict[str, torch.Tensor], fresh: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The old tensors; those that have fewer rows get the further ones of the fresh network."""
    return {
        name: torch.cat([value, fresh[name][len(value) :]])
        if name in fresh and value.shape != fresh[name].shape and _is_grown(value, fresh[name])
        else value
        for name, value in old.items()
    }


def pick_device(name: str) -> torch.device:
    """The device of a [train] setting; auto is the GPU when there is one.

    Raises:
        SettingsError: the device is not there.
    """
    has_gpu = torch.cuda.is_available()
    if name == "auto":
        return torch.device("cuda" if has_gpu else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise SettingsError(
            f"train.device = {name!r} is not a device; write auto, cpu or cuda:0"
        ) from error
    if device.type not in ("cpu", "cuda", "mps"):
        raise SettingsError(f"train.device = {name!r} cannot train; write auto, cpu or cuda:0")
    count = torch.cuda.device_count() if has_gpu else 0
    if device.type == "cuda" and (device.index or 0) >= count:
        raise SettingsError(f"train.device = {name!r}, but {count} GPUs are visible; write auto")
    return device


@contextmanager
def cpu_threads(count: int) -> Iterator[None]:
    """At most `count` CPU threads for torch and BLAS in a block; 0 leaves both as they are.

    Small networks are slower on two threads than on one, and much slower on a busy machine.
    """
    if count == 0:
        yield
        return
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        with threadpool_limits(limits=count):
            yield
    finally:
        torch.set_num_threads(before)


_STATES: tuple[tuple[Callable[[], Any], Callable[[Any], Any]], ...] = (
    (torch.get_default_dtype, torch.set_default_dtype),
    (torch.get_num_threads, torch.set_num_threads),
    (torch.get_float32_matmul_precision, torch.set_float32_matmul_precision),
    (torch.is_grad_enabled, torch.set_grad_enabled),
    (torch.are_deterministic_algorithms_enabled, torch.use_deterministic_algorithms),
    (np.geterr, lambda errors: np.seterr(**errors)),
)
"""how to read and to set what is global in a process"""


def seed_torch(seed: int) -> None:
    """Seed torch's global generators.

    Without an accelerator, `torch.manual_seed` keeps three stack traces of every call for the day
    when there is one: they take longer than a small network, and are never freed.
    """
    if torch.accelerator.is_available():
        torch.manual_seed(seed)
    else:
        torch.default_generator.manual_seed(seed)


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Seed torch's global generators inside the block and restore their state after it."""
    with torch.random.fork_rng(devices=range(torch.cuda.device_count())):
        seed_torch(seed)
        yield


def seed_all(seed: int) -> None:
    """Seed the global generators of torch, numpy and Python."""
    seed_torch(seed)
    np.random.seed(seed % 2**32)  # noqa: NPY002  what a user's code draws from
    random.seed(seed)


@contextmanager
def isolated() -> Iterator[None]:
    """Run a user's code with generators of one seed, and restore all that is global after it.

    Torch's, numpy's and Python's global generators begin at the same place in every block, so
    that what draws from them does not depend on who was asked before.
    """
    before = [read() for read, _ in _STATES]
    numpy_state, python_state = np.random.get_state(), random.getstate()  # noqa: NPY002  its owner
    with torch.random.fork_rng(devices=range(torch.cuda.device_count())):
        seed_all(0)
        try:
            yield
        finally:
            np.random.set_state(numpy_state)  # noqa: NPY002
            random.setstate(python_state)
            for (read, restore), value in zip(_STATES, before, strict=True):
                if read() != value:
                    restore(value)


FORWARD = "forward of the task's network"


class Model:
    """A task's network with given weights, or what its trainer loads; it is never trained further."""

    def __init__(
        self,
        task: Task,
        weights: bytes,
        device: torch.device,
        *,
        note: str = "",
        is_then: bool = False,
        rename: Callable[[Json], Json] | None = None,
    ) -> None:
        self.task = task
        """with which it answers; that of then, if `is_then`"""
        self.digest = content_id(weights)
        self.device = device
        self.note = note
        """what is worth knowing of its code; empty: it is that of now, and nothing has changed"""
        self.is_then = is_then
        """whether its code is that of the time when it was made, since that of now does not fit"""
        self._rename = rename
        self._module: torch.nn.Module | None = None
        if task.trainer is not None:
            self._ask: Callable[[Any], list[Answer]] = self._loaded(task.trainer, weights)
        else:
            self._module = task.network()
            load_weights(self._module, weights)
            self._module.to(device).eval()
            self._ask = self._forward

    def answer(self, inputs: Any) -> list[Answer]:
        """Answers for a batch of B inputs, as `task.inputs` gives them; these stay as they are.

        Raises:
            PayloadError: a trainer's model cannot read a sample.
            TaskError: there are more or fewer answers than inputs, or one is not JSON.
        """
        answers = self._ask(inputs)
        if len(answers) != num_rows(inputs):
            raise TaskError(
                f"The task returned {len(answers)} answers to {num_rows(inputs)} samples. "
                "Let it return one each, in order; flywheel check tests this."
            )
        for answer in answers:
            if not is_json(answer.value):
                raise TaskError(
                    f"answers of the task returned the value {answer.value!r:.60}, which is not JSON. "
                    "Return finite numbers, strings, lists and dicts"
                )
        if self._rename is None:
            return answers
        return [replace(answer, value=self._rename(answer.value)) for answer in answers]

    def weight_places(self) -> set[int]:
        """Where the weights lie in memory; models that share a place are one network."""
        weights = () if self._module is None else self._module.parameters()
        return {value.data_ptr() for value in weights if value.numel()}

    def answer_samples(self, samples: Sequence[Sample], batch_size: int = 256) -> list[Answer]:
        """Answers for any number of samples, in bounded memory."""
        answers: list[Answer] = []
        for start in range(0, len(samples), batch_size):
            answers += self.answer(self.task.inputs(samples[start : start + batch_size]))
        return answers

    def _forward(self, inputs: Any) -> list[Answer]:
        assert self._module is not None  # noqa: S101  a network answers
        with torch.inference_mode():  # copied: a network may write into what it is given
            given = map_tensors(
                lambda one: one.to(self.device, copy=True), self.task.batched(inputs)
            )
            with blamed(FORWARD, self._module):
                output = self._module(given)
            return self.task.answers(output)

    def _loaded(self, trainer: Trainer, artifact: bytes) -> Callable[[Any], list[Answer]]:
        """What answers with an artifact, whose files live as long as this model."""
        folder = Path(tempfile.mkdtemp(prefix="flywheel-model-"))
        weakref.finalize(self, shutil.rmtree, folder, ignore_errors=True)
        unpack(artifact, folder)
        load = guard("load of the task's trainer", trainer.load, _is_callable)
        predict: Predict = load(folder, str(self.device))
        ask = guard("predict of the task's trainer", predict, _are_answers, then=list)
        return lambda samples: ask(copied(list(samples)))


def _is_callable(found: Any, _: tuple[Any, ...]) -> str:
    return "" if callable(found) else "a function, samples -> answers"


def _are_answers(found: Any, _: tuple[Any, ...]) -> str:
    is_so = all(isinstance(one, Answer) for one in found)
    return "" if is_so else "a list of flywheel.records.Answer, one for each sample"
