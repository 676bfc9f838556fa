"""The training loop: all rows on the device, one seed, weights that count hard cases with a cap.

Rows are decoded once and stay on the device, so an epoch is only arithmetic; there are no
loader processes to start, hang or seed. Refuses to know whether the result is any good.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

import torch

from flywheel.errors import FlywheelError
from flywheel.model import pick_device, weights_of
from flywheel.project import Train
from flywheel.records import Array, Checkpoint, content_id
from flywheel.task import Task
from flywheel.train.data import Trained, TrainingData, check_learnable, row_weights
from flywheel.train.start import seeded, starting_network

Progress = Callable[[int, int, float], None]
"""called with (epoch counted from 1, epochs, mean loss) after every epoch"""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class _Resident:
    """The training rows on the device; B rows in all."""

    inputs: torch.Tensor
    """(B, ...)"""
    targets: torch.Tensor
    """(B, ...)"""
    weights: torch.Tensor
    """(B,), mean 1"""


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
        UserError: fewer than two rows, one answer only, or nothing but targeted rows.
        TaskError: the champion's weights belong to another network.
        FlywheelError: the loss or the weights stopped being finite numbers.
    """
    check_learnable(data)
    weights = row_weights(data.origins, settings.hard_share, data.weights)
    device = pick_device(settings.device)
    stopwatch = time.perf_counter()
    with seeded(seed):
        module = starting_network(task, data.champion, settings.shrink).to(device).train()
        rows = _resident(task, data, weights, device)
        losses = _fit(task, module, rows, settings, _reporter(settings, progress))
    _check_weights(module, settings)
    trained = weights_of(module)
    warm = data.champion if settings.shrink > 0 else None
    checkpoint = Checkpoint(
        digest=content_id(trained),
        parent_digest=None if warm is None else content_id(warm),
        dataset_id=data.dataset_id,
        seed=seed,
        settings=settings.model_dump(mode="json"),
        device=torch.cuda.get_device_name(device) if device.type == "cuda" else device.type,
        losses=losses,
        train_seconds=time.perf_counter() - stopwatch,
        created_at=now,
    )
    return Trained(weights=trained, checkpoint=checkpoint)


def _resident(task: Task, data: TrainingData, weights: Array, device: torch.device) -> _Resident:
    return _Resident(
        inputs=task.inputs(data.samples).to(device),
        targets=task.targets(data.answers).to(device),
        weights=torch.as_tensor(weights, dtype=torch.float32, device=device),
    )


def _fit(
    task: Task,
    module: torch.nn.Module,
    rows: _Resident,
    settings: Train,
    report: Callable[[int, float], None],
) -> tuple[float, ...]:
    """Train in place; the mean loss of each epoch."""
    device = rows.weights.device
    # Drawn from the seeded global generator; the task's augmentation must not share it, or
    # changing a dropout layer would change which variations are seen.
    augmenter = torch.Generator(device=device).manual_seed(int(torch.randint(2**31, ())))
    steps = math.ceil(len(rows.weights) / settings.batch_size)
    optimizer = torch.optim.AdamW(
        module.parameters(), lr=settings.learning_rate, fused=device.type == "cuda"
    )
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, settings.epochs * steps)
    losses = []
    for epoch in range(1, settings.epochs + 1):
        total = torch.zeros((), device=device)
        # Parts of nearly equal size: a last batch of one row would break a batch norm.
        for batch in torch.randperm(len(rows.weights)).to(device).tensor_split(steps):
            loss = _batch_loss(task, module, rows, batch, augmenter)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]  # torch leaves it untyped
            optimizer.step()
            schedule.step()
            total += loss.detach() * len(batch)
        losses.append(total.item() / len(rows.weights))
        report(epoch, losses[-1])
    return tuple(losses)


def _batch_loss(
    task: Task,
    module: torch.nn.Module,
    rows: _Resident,
    batch: torch.Tensor,
    augmenter: torch.Generator,
) -> torch.Tensor:
    """Mean over the batch of weight times loss.

    Divided by the number of rows and not by their weights, so that over an epoch every row
    counts exactly with its weight, whichever batch it falls into.
    """
    inputs = rows.inputs[batch]
    if task.augment is not None:
        inputs = task.augment(inputs, augmenter)
    losses = task.loss(module(inputs), rows.targets[batch])
    return (rows.weights[batch] * losses).mean()


def _reporter(settings: Train, progress: Progress) -> Callable[[int, float], None]:
    """Pass on a finite loss, and stop at one that is not."""

    def report(epoch: int, loss: float) -> None:
        if not math.isfinite(loss):
            raise FlywheelError(
                f"the training loss is {loss} in epoch {epoch} of {settings.epochs}; lower "
                f"train.learning_rate = {settings.learning_rate}, to a tenth for one, or look for "
                "inputs and labels that are no finite numbers with flywheel check"
            )
        progress(epoch, settings.epochs, loss)

    return report


def _check_weights(module: torch.nn.Module, settings: Train) -> None:
    """The last step may break weights after the last loss was still fine."""
    for name, value in module.state_dict().items():
        if value.is_floating_point() and not bool(value.isfinite().all()):
            raise FlywheelError(
                f"the weights {name!r} are no finite numbers after epoch {settings.epochs}; "
                f"lower train.learning_rate = {settings.learning_rate}, to a tenth for one"
            )
