"""Trains a candidate in this process: start weights, training loop and checkpoint record.

Training starts from a fresh network or from the champion's, shrunk and perturbed. All rows are
decoded once and stay on the device, so there are no loader processes to start, hang or seed. All
randomness comes from torch's global generators, which `seeded` seeds and restores.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime

import torch

from flywheel.errors import FlywheelError
from flywheel.model import load_weights, pick_device, weights_of
from flywheel.records import Checkpoint, content_id
from flywheel.settings.learning import Train
from flywheel.task import Task
from flywheel.train.data import Trained, TrainingData, check_learnable, row_weights
from flywheel.train.team import Team

_NOISE_STD = 0.01

Progress = Callable[[int, int, float], None]
"""called with (epoch counted from 1, epochs, mean loss) after every epoch"""
_ALONE = Team()


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Seed torch's global generators inside the block and restore their state after it."""
    with torch.random.fork_rng(devices=range(torch.cuda.device_count())):
        torch.manual_seed(seed)
        yield


def starting_network(task: Task, champion: bytes | None, shrink: float) -> torch.nn.Module:
    """Return the network that training starts from.

    Formula: theta = shrink * theta_champion + N(0, 0.01^2) for every parameter; a fresh network
    when there is no champion or `shrink` is 0. A plain warm start generalises worse than a fresh
    one.
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


@dataclass(frozen=True, kw_only=True, slots=True)
class Fitted:
    """The result of the training loop, before it becomes a checkpoint."""

    weights: bytes = field(repr=False)
    """safetensors"""
    losses: tuple[float, ...]
    """mean training loss of each epoch"""
    device: str
    """name of the GPU, or cpu"""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class _Resident:
    """All N training rows on the device."""

    inputs: torch.Tensor
    """(N, ...)"""
    targets: torch.Tensor
    """(N, ...)"""
    weights: torch.Tensor
    """(N,), mean 1"""


def fit(
    task: Task,
    settings: Train,
    data: TrainingData,
    *,
    seed: int,
    progress: Progress,
    team: Team = _ALONE,
) -> Fitted:
    """Train on the device of the settings, alone or as one process of a team.

    Raises:
        UserError: all rows are targeted, or a batch has fewer rows than there are processes.
        TaskError: the champion's weights belong to another network.
        FlywheelError: the loss or a weight is not finite.
    """
    device = pick_device(settings.device)
    with seeded(seed):
        module = starting_network(task, data.champion, settings.shrink).to(device).train()
        rows = _resident(task, data, settings, device)
        # Drawn from the seeded global generator; the task's augmentation must not share it, or
        # changing a dropout layer would change which variations are seen.
        augmenter = torch.Generator(device=device).manual_seed(int(torch.randint(2**31, ())))
        order = team.batch_generator(seed)
        network = _Network(task, team.wrap(module), rows, augmenter, team)
        losses = _epochs(network, settings, order, _reporter(settings, progress))
    _check_weights(module, settings)
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else device.type
    return Fitted(weights=weights_of(module), losses=losses, device=name)


def _resident(task: Task, data: TrainingData, settings: Train, device: torch.device) -> _Resident:
    weights = row_weights(data.origins, settings.hard_share, data.weights)
    return _Resident(
        inputs=task.inputs(data.samples).to(device),
        targets=task.targets(data.answers).to(device),
        weights=torch.as_tensor(weights, dtype=torch.float32, device=device),
    )


@dataclass(frozen=True, slots=True, eq=False)
class _Network:
    """The network with all that the loss of a batch needs."""

    task: Task
    module: torch.nn.Module
    rows: _Resident
    augmenter: torch.Generator
    team: Team

    def loss(self, batch: torch.Tensor) -> torch.Tensor:
        """Return the weighted mean loss of a batch of row indices (B,); in a team, this process's part.

        The sum is divided by the number of rows and not by their weights, so that over an epoch
        every row counts exactly with its weight, whichever batch it falls into. DDP averages the
        gradients of a team, so each part is scaled by its number of rows: the parts of a batch
        may differ in size.
        """
        rows, team = self.rows, self.team
        mine = team.share(len(batch))
        if self.task.augment is None:
            inputs = rows.inputs[batch[mine]]
        else:  # the whole batch, so that a row's augmentation does not depend on the team's size
            inputs = self.task.augment(rows.inputs[batch], self.augmenter)[mine]
        batch_size, batch = len(batch), batch[mine]
        losses = self.task.loss(self.module(inputs), rows.targets[batch])
        return (rows.weights[batch] * losses).mean() * (len(batch) * team.size / batch_size)


def _epochs(
    network: _Network,
    settings: Train,
    order: torch.Generator | None,
    report: Callable[[int, float], None],
) -> tuple[float, ...]:
    """Train in place; return the mean loss of each epoch."""
    team, weights = network.team, network.rows.weights
    device = weights.device
    steps = math.ceil(len(weights) / settings.batch_size)
    team.check(len(weights), steps)
    optimizer = torch.optim.AdamW(
        network.module.parameters(), lr=settings.learning_rate, fused=device.type == "cuda"
    )
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, settings.epochs * steps)
    losses = []
    for epoch in range(1, settings.epochs + 1):
        total = torch.zeros((), device=device)
        permutation = torch.randperm(len(weights), generator=order).to(device)
        # Batches of nearly equal size: a last batch of one row would break a batch norm.
        for batch in permutation.tensor_split(steps):
            loss = network.loss(batch)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]  # torch leaves it untyped
            optimizer.step()
            schedule.step()
            total += loss.detach() * len(batch)
        losses.append(team.total(total).item() / team.size / len(weights))
        report(epoch, losses[-1])
    return tuple(losses)


def _reporter(settings: Train, progress: Progress) -> Callable[[int, float], None]:
    """Return a callback that passes a finite loss on and raises for any other."""

    def report(epoch: int, loss: float) -> None:
        if not math.isfinite(loss):
            raise FlywheelError(
                f"the training loss is {loss} in epoch {epoch} of {settings.epochs}; lower "
                f"train.learning_rate = {settings.learning_rate}, for example to a tenth, or run "
                "flywheel check to find inputs and labels that are not finite"
            )
        progress(epoch, settings.epochs, loss)

    return report


def _check_weights(module: torch.nn.Module, settings: Train) -> None:
    """Raise an error for weights that the last step made infinite after a finite last loss."""
    for name, value in module.state_dict().items():
        if value.is_floating_point() and not bool(value.isfinite().all()):
            raise FlywheelError(
                f"the weights {name!r} are not finite after epoch {settings.epochs}; lower "
                f"train.learning_rate = {settings.learning_rate}, for example to a tenth"
            )


def train(
    task: Task,
    settings: Train,
    data: TrainingData,
    *,
    seed: int,
    now: datetime,
    progress: Progress,
) -> Trained:
    """Train a candidate; the same arguments on the same CPU give the same bytes.

    Raises:
        UserError: there are fewer than two rows, only one answer, or only targeted rows.
        TaskError: the champion's weights belong to another network.
        FlywheelError: the loss or a weight is not finite.
    """
    check_learnable(data)
    stopwatch = time.perf_counter()
    fitted = fit(task, settings, data, seed=seed, progress=progress)
    seconds = time.perf_counter() - stopwatch
    return with_record(fitted, settings, data, seed=seed, seconds=seconds, now=now)


def with_record(
    fitted: Fitted,
    settings: Train,
    data: TrainingData,
    *,
    seed: int,
    seconds: float,
    now: datetime,
) -> Trained:
    """Return the weights with the record of how they were made."""
    warm = data.champion if settings.shrink > 0 else None
    checkpoint = Checkpoint(
        digest=content_id(fitted.weights),
        parent_digest=None if warm is None else content_id(warm),
        dataset_id=data.dataset_id,
        seed=seed,
        settings=settings.model_dump(mode="json"),
        device=fitted.device,
        losses=fitted.losses,
        train_seconds=seconds,
        created_at=now,
    )
    return Trained(weights=fitted.weights, checkpoint=checkpoint)
