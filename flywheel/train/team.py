"""One process of a data-parallel training: its share of each batch, and sums over all processes.

Every process draws the same batches with the same augmentation, whatever the number of processes.
Each computes its share, and the gradient is that of the whole batch. Any row may be in any share, so
that no process can own a part of the rows; what a process reads is in `rows`. A process that trains
alone is a team of one.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import distributed
from torch.nn.parallel import DistributedDataParallel

from flywheel.errors import UserError


@dataclass(frozen=True, kw_only=True, slots=True)
class Team:
    """A process and the number of processes that train together."""

    rank: int = 0
    size: int = 1
    folder: Path | None = None
    """of all processes, for what they hold together; None: each holds its own"""

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
