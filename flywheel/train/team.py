"""Processes that train together, as seen by one of them: its share of each batch, and the sums.

All of them hold all rows and draw the same batches and the same variations of them, whatever
their number; each computes its part, and the gradient is that of the whole batch. Alone, a
process is a team of one. Refuses to know who started the others.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import distributed
from torch.nn.parallel import DistributedDataParallel

from flywheel.errors import UserError


@dataclass(frozen=True, kw_only=True, slots=True)
class Team:
    """One of the processes that train together."""

    rank: int = 0
    size: int = 1

    def joined(self, module: torch.nn.Module) -> torch.nn.Module:
        """The network, with gradients that are summed up over the team.

        A batch norm sees the whole batch on GPUs, and each process's part of it on CPUs, where
        torch cannot do better: the running statistics are then those of the first process.
        """
        if self.size == 1:
            return module
        if next(module.parameters()).is_cuda:
            module = torch.nn.SyncBatchNorm.convert_sync_batchnorm(module)  # type: ignore[no-untyped-call]
        # Parameters that a loss does not reach are fine alone, so they are fine here.
        return DistributedDataParallel(module, find_unused_parameters=True)

    def order(self, seed: int) -> torch.Generator | None:
        """What batches are drawn with; afterwards each process draws its own dropout.

        Alone, dropout and batches come from one generator. It is copied, so that a network that
        draws nothing by itself sees the very batches that it would see alone.
        """
        if self.size == 1:
            return None
        generator = torch.Generator()
        generator.set_state(torch.get_rng_state())
        torch.manual_seed(seed + (self.rank << 32))
        return generator

    def share(self, number: int) -> slice:
        """Which of a batch's rows this process computes."""
        if self.size == 1:
            return slice(None)
        return slice(self.rank * number // self.size, (self.rank + 1) * number // self.size)

    def total(self, value: torch.Tensor) -> torch.Tensor:
        """The sum over the team, of a tensor that may be overwritten."""
        if self.size > 1:
            distributed.all_reduce(value)
        return value

    def check(self, num_rows: int, num_steps: int) -> None:
        """Refuse batches of which some process would have nothing.

        Raises:
            UserError: there are such.
        """
        least = num_rows // num_steps
        if least < self.size:
            raise UserError(
                f"train.processes = {self.size}, but {num_rows} training rows make batches of "
                f"{least}; set train.processes = 1, or a larger train.batch_size"
            )
