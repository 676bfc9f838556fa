"""A candidate, trained in this process: what comes out, with the record of what made it."""

from __future__ import annotations

import time
from datetime import datetime

from flywheel.project import Train
from flywheel.records import Checkpoint, content_id
from flywheel.task import Task
from flywheel.train.data import Trained, TrainingData, check_learnable
from flywheel.train.fit import Fitted, Progress, fit


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
    stopwatch = time.perf_counter()
    fitted = fit(task, settings, data, seed=seed, progress=progress)
    seconds = time.perf_counter() - stopwatch
    return recorded(fitted, settings, data, seed=seed, seconds=seconds, now=now)


def recorded(
    fitted: Fitted,
    settings: Train,
    data: TrainingData,
    *,
    seed: int,
    seconds: float,
    now: datetime,
) -> Trained:
    """The weights with the record of what made them."""
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
