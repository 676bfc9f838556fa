"""Where training starts from: a fresh network, or the champion's, shrunk and perturbed.

Refuses to know the data. Everything random comes from torch's global generators, which
`seeded` seeds and puts back.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from flywheel.model import load_weights
from flywheel.task import Task

_NOISE_STD = 0.01


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Seed torch's global generators inside the block, and restore them after it."""
    with torch.random.fork_rng(devices=range(torch.cuda.device_count())):
        torch.manual_seed(seed)
        yield


def starting_network(task: Task, champion: bytes | None, shrink: float) -> torch.nn.Module:
    """The network that training starts from.

    Formula: theta = shrink * theta_champion + N(0, 0.01^2) for every parameter; fresh when there
    is no champion or `shrink` is 0. A plain warm start generalises worse than a fresh one.
    Source: Ash and Adams, "On Warm-Starting Neural Network Training", arXiv 1910.08475.
    Departure: buffers, such as the statistics of a batch norm, are kept as they are, because
    shrinking a measured mean or variance would make it wrong.

    Raises:
        TaskError: the champion's weights belong to another network.
    """
    module = task.model()
    if champion is None or shrink == 0:
        return module
    load_weights(module, champion)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.mul_(shrink).add_(torch.randn_like(parameter), alpha=_NOISE_STD)
    return module
