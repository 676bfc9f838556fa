"""The rows of a training as batches on a device: decoded once if they fit there, else when they are due.

What fits is decoded in blocks and stays on the device, so that no process or thread loads anything. More
rows are decoded batch by batch, by threads or DataLoader workers that run ahead of the network, so that
memory holds a few batches whatever the number of rows. A process of a team then decodes its share of each
batch only.

Every process of a data-parallel training draws the same batches with the same augmentation, whatever the
number of processes. Each computes its share, and the gradient is that of the whole batch. Any row may be in
any share, so that no process can own a part of the rows. A process that trains alone is a team of one.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import torch
from torch import distributed
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader, Dataset

from flywheel.batches import is_list, join, map_tensors, shape_of, tensors_of
from flywheel.errors import FlywheelError, UserError
from flywheel.records import FAILED, TRAIN_ONLY, Array, Sample
from flywheel.task import Task
from flywheel.train.data import TrainingData, pick

_LOOK, _BLOCK = 64, 256
"""rows that say how large all are, and rows whose payloads are in memory while they are decoded"""
_SHARE = 0.5
"""of the free memory that decoded rows may take"""
_LOADERS, _AHEAD = 2, 4
"""threads that decode, and batches that wait for the network at most"""
_CONTAINER = Path("/sys/fs/cgroup")
"""what Linux says of the memory that a container may take, which is less than the machine's"""


@dataclass(frozen=True, kw_only=True, slots=True)
class Team:
    """A process and the number of processes that train together."""

    rank: int = 0
    size: int = 1
    folder: Path | None = None
    """of all processes, for what they hold together; None: each holds its own"""
    num_workers: int = 0
    """further processes that decode for this one; 0: its threads do"""

    def shared(self, make: Callable[[], Any]) -> Any:
        """Return a tree of tensors on the CPU that rank 0 makes, in one copy of memory for all."""
        if self.folder is None:
            return make()
        path = self.folder / "shared.pt"
        if self.rank == 0:
            torch.save(make(), path)
        distributed.barrier()
        return torch.load(path, mmap=True)

    def wrap(self, module: torch.nn.Module) -> torch.nn.Module:
        """Return the network wrapped so that gradients are averaged over the team.

        On GPUs a batch norm sees the whole batch. On CPUs, where torch has no synchronised batch
        norm, it sees this process's share, and the running statistics are those of rank 0.
        """
        if self.size == 1:
            return module
        if next(module.parameters()).is_cuda:
            module = torch.nn.SyncBatchNorm.convert_sync_batchnorm(module)  # type: ignore[no-untyped-call]
        # Training alone allows parameters that the loss does not reach, so a team does too.
        return DistributedDataParallel(module, find_unused_parameters=True)

    def batch_generator(self, seed: int) -> torch.Generator | None:
        """Return the generator that draws batches, and seed this process's own dropout.

        Alone (None), dropout and batches come from the global generator. For a team that generator
        is copied, so that a network without dropout sees exactly the batches it would see alone.
        """
        if self.size == 1:
            return None
        generator = torch.Generator()
        generator.set_state(torch.get_rng_state())
        torch.manual_seed(seed + (self.rank << 32))
        return generator

    def share(self, number: int) -> slice:
        """Return which of a batch's `number` rows this process computes."""
        if self.size == 1:
            return slice(None)
        return slice(self.rank * number // self.size, (self.rank + 1) * number // self.size)

    def total(self, value: torch.Tensor) -> torch.Tensor:
        """Return the sum over the team, in place."""
        if self.size > 1:
            distributed.all_reduce(value)
        return value

    def check(self, num_rows: int, num_steps: int) -> None:
        """Raise an error when some process would have no row of a batch.

        Raises:
            UserError: the smallest batch has fewer rows than there are processes.
        """
        least = num_rows // num_steps
        if least < self.size:
            raise UserError(
                f"train.processes = {self.size}, but {num_rows} training rows make batches of "
                f"{least}; set train.processes = 1 or raise train.batch_size"
            )


ALONE = Team()
"""a process that trains by itself"""


def part_of(inputs: Any, rows: Any) -> Any:
    """Return some rows of inputs: a slice, or (B,) indices."""
    if not is_list(inputs):
        return map_tensors(lambda one: one[rows], inputs)
    return inputs[rows] if isinstance(rows, slice) else [inputs[row] for row in rows.tolist()]


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Rows:
    """All N training rows."""

    task: Task
    device: torch.device
    samples: Sequence[Sample] = field(repr=False)
    inputs: Any
    """of all rows, on the device; None: they are decoded when they are due"""
    targets: Any
    """of all rows, on the device"""
    weights: torch.Tensor
    """(N,), mean 1"""
    is_refuted: torch.Tensor | None
    """(N,) whether the target is an answer that a row does not have; None: of no row"""

    @staticmethod
    def read(task: Task, data: TrainingData, device: torch.device, team: Team = ALONE) -> Rows:
        """Return the rows of a training, decoded if they fit into memory.

        On a CPU a whole team shares the memory, and its processes share one copy.

        Raises:
            PayloadError: a sample cannot be read.
        """
        refuted = [origin == FAILED for origin in data.origins]
        weights = row_weights(data.origins, data.weights)
        decode = partial(_decode_all, task, data.samples, device)
        return Rows(
            task=task,
            device=device,
            samples=data.samples,
            inputs=decode() if device.type == "cuda" else team.shared(decode),
            targets=map_tensors(lambda one: one.to(device), task.targets(data.answers)),
            weights=torch.as_tensor(weights, dtype=torch.float32, device=device),
            is_refuted=torch.tensor(refuted, device=device) if any(refuted) else None,
        )

    def stream(
        self, batches: Sequence[torch.Tensor], team: Team = ALONE
    ) -> Iterator[tuple[torch.Tensor, Any]]:
        """Yield batches of row indices (B,), each with its inputs on the device.

        They are those of the team's process, unless the task has an `augment`: this gets the whole
        batch, so that a row's augmentation depends neither on the team's size nor on its rank.
        """

        def mine(batch: torch.Tensor) -> torch.Tensor:
            return batch if self.task.augment is not None else batch[team.share(len(batch))]

        if self.inputs is not None:
            for batch in batches:
                yield batch, part_of(self.inputs, mine(batch))
            return
        due = [mine(batch).tolist() for batch in batches]
        loaded = (
            _by_workers(self, due, team.num_workers) if team.num_workers else _by_threads(self, due)
        )
        for batch, inputs in zip(batches, loaded, strict=True):
            yield batch, self._moved(inputs)

    def targets_of(self, batch: torch.Tensor) -> Any:
        """Return the targets of the rows (B,)."""
        return part_of(self.targets, batch)

    def batched(self, inputs: Any) -> Any:
        """Return what the network is called with for inputs of some rows."""
        return self._moved(self.task.batched(inputs))

    def _moved(self, inputs: Any) -> Any:
        return map_tensors(lambda one: one.to(self.device, non_blocking=True), inputs)

    def decoded(self, rows: Sequence[int]) -> Any:
        """Return the inputs of some rows as the task makes them."""
        inputs = self.task.inputs(list(pick(self.samples, rows)))
        if self.device.type == "cuda":
            return inputs
        # A view may take another kernel than rows that were picked from memory, which rounds otherwise.
        return map_tensors(lambda one: one.contiguous(), inputs)

    def pinned(self, rows: Sequence[int]) -> Any:
        """Return the same in pinned memory: only from there does a copy run beside the network."""
        inputs = self.decoded(rows)
        if self.device.type != "cuda":
            return inputs
        return map_tensors(lambda one: one if one.is_cuda else one.pin_memory(), inputs)


def _by_threads(rows: Rows, due: Sequence[list[int]]) -> Iterator[Any]:
    """Yield the inputs of each batch: little to hand over, and most decoders release Python's lock."""
    waiting = deque[Future[Any]]()
    with ThreadPoolExecutor(_LOADERS) as pool:
        try:
            for batch in due:
                waiting.append(pool.submit(rows.pinned, batch))
                if len(waiting) > _AHEAD:
                    yield waiting.popleft().result()
            for inputs in waiting:
                yield inputs.result()
        finally:
            pool.shutdown(cancel_futures=True)


class _Batches(Dataset[Any]):
    """The batches of an epoch as a worker decodes them, or the error that one of them ends with.

    A DataLoader would pass an error on as the text of its traceback.
    """

    def __init__(self, rows: Rows, due: Sequence[list[int]]) -> None:
        self.rows, self.due = rows, due

    def __len__(self) -> int:
        return len(self.due)

    def __getitem__(self, place: int) -> Any:
        try:
            return self.rows.decoded(self.due[place])
        except FlywheelError as error:
            return error


def _by_workers(rows: Rows, due: Sequence[list[int]], num_workers: int) -> Iterator[Any]:
    """Yield the inputs of each batch: for a decoder that holds Python's lock."""
    loader = DataLoader(
        _Batches(rows, due),
        batch_size=None,
        collate_fn=lambda inputs: inputs,
        num_workers=num_workers,
        # A task is not pickled: its functions are guarded, and its module is read already.
        multiprocessing_context="fork",
        pin_memory=rows.device.type == "cuda",
        # It draws a seed, which must not move the generator that draws the batches.
        generator=torch.Generator(),
    )
    try:
        for inputs in loader:
            if isinstance(inputs, FlywheelError):
                raise inputs
            yield inputs
    except RuntimeError as error:
        if "DataLoader worker" not in str(error):
            raise
        raise FlywheelError(
            f"a worker that decodes rows was killed ({error}), mostly because memory is short. Lower "
            "train.num_workers, or write 0 for threads"
        ) from error


def row_weights(origins: Sequence[str], reliabilities: Sequence[float] = ()) -> Array:
    """Return (N,) weights of mean 1: a label by annotators weighs 1, others their reliability."""
    weights = np.ones(len(origins))
    if reliabilities:
        alone = [origin in TRAIN_ONLY for origin in origins]
        weights[alone] = np.asarray(reliabilities, dtype=np.float64)[alone]
    scaled: Array = weights / weights.mean() if len(weights) else weights
    return scaled


def _decode_all(task: Task, samples: Sequence[Sample], device: torch.device) -> Any:
    """Return the inputs of all samples; None if they do not fit into memory."""
    blocks = [task.inputs(list(samples[:_LOOK]))]
    if _bytes_of(blocks[0]) > _free(device) * min(1.0, _LOOK / max(len(samples), 1)):
        return None
    starts = range(_LOOK, len(samples), _BLOCK)
    blocks += [task.inputs(list(samples[start : start + _BLOCK])) for start in starts]
    if len({shape_of(block) for block in blocks}) > 1:
        blocks = [task.inputs(list(samples))]  # a task may pad each batch to its longest sample
    decoded = blocks[0] if len(blocks) == 1 else join(blocks)
    return map_tensors(lambda one: one.to(device), decoded)


def _bytes_of(inputs: Any) -> int:
    return sum(one.nbytes for one in tensors_of(inputs))


def _free(device: torch.device) -> float:
    """Return the bytes that decoded rows may take: joining them takes as much again for a moment."""
    if device.type == "cuda":
        return _SHARE * torch.cuda.mem_get_info(device)[0]
    return _SHARE / 2 * min(psutil.virtual_memory().available, _left_to_container())


def _left_to_container() -> float:
    """Return the bytes below the limit of this container; infinite without a limit.

    Source: memory.max, memory.current and memory.stat of Linux's control groups, version 2. Cached
    files count as taken there, although they give way.
    """
    try:
        most = (_CONTAINER / "memory.max").read_text(encoding="ascii").strip()
        taken = int((_CONTAINER / "memory.current").read_text(encoding="ascii"))
        stat = (_CONTAINER / "memory.stat").read_text(encoding="ascii").split()
    except OSError:
        return math.inf
    cached = int(stat[stat.index("inactive_file") + 1])
    return math.inf if most == "max" else int(most) - taken + cached
