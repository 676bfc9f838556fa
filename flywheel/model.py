"""A network with its weights: written, read and asked in one way everywhere.

The model server and the evaluation answer through the same code, so that what is measured
is what serves. Weights are safetensors, which load without pickle and so run no code.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import safetensors.torch
import torch
from safetensors import SafetensorError
from threadpoolctl import threadpool_limits

from flywheel.errors import SettingsError, TaskError
from flywheel.records import Answer, Sample, content_id
from flywheel.task import Task


def weights_of(module: torch.nn.Module) -> bytes:
    """The weights as the bytes of a safetensors file; equal weights give equal bytes."""
    # Cloned: safetensors refuses layers that share one weight, and on loading both get it back.
    state = {
        name: value.detach().cpu().contiguous().clone()
        for name, value in module.state_dict().items()
    }
    return safetensors.torch.save(state)


def load_weights(module: torch.nn.Module, weights: bytes) -> None:
    """Put the weights of a safetensors file into a module.

    Raises:
        TaskError: the bytes are no safetensors file, or belong to another network.
    """
    try:
        module.load_state_dict(safetensors.torch.load(weights))
    except (SafetensorError, RuntimeError) as error:
        raise TaskError(
            f"the checkpoint does not fit the network that task.model() returns: {error}; "
            "after changing the network, train its first weights anew under a new project name"
        ) from error


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


class Model:
    """A task's network with given weights, ready to answer; it is never trained further."""

    def __init__(self, task: Task, weights: bytes, device: torch.device) -> None:
        self.task = task
        self.digest = content_id(weights)
        self.device = device
        self._module = task.model()
        load_weights(self._module, weights)
        self._module.to(device).eval()

    def answer(self, inputs: torch.Tensor) -> list[Answer]:
        """Answers for a batch of inputs, (B, ...) as `task.inputs` gives them."""
        with torch.inference_mode():
            return self.task.answers(self._module(inputs.to(self.device)))

    def answer_samples(self, samples: Sequence[Sample], batch_size: int = 256) -> list[Answer]:
        """Answers for any number of samples, in bounded memory."""
        answers: list[Answer] = []
        for start in range(0, len(samples), batch_size):
            answers += self.answer(self.task.inputs(samples[start : start + batch_size]))
        return answers
