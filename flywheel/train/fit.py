"""Trains a candidate in this process: start weights, training loop and checkpoint record.

Training starts from a fresh network or from the champion's, shrunk and perturbed. All randomness comes from torch's global generators, which `seeded` seeds and restores.
"""

from __future__ import annotations

import math
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import torch

from flywheel.artifact import make_card, steady_answers
from flywheel.batches import map_tensors
from flywheel.calls import blamed, guard
from flywheel.errors import FlywheelError
from flywheel.model import (
    FORWARD,
    Model,
    isolated,
    load_weights,
    pick_device,
    seed_all,
    seeded,
    weights_of,
)
from flywheel.records import FAILED
from flywheel.settings.learning import Train
from flywheel.task import Task
from flywheel.train.data import (
    Fitted,
    Plan,
    Trained,
    TrainingData,
    check_learnable,
    kinds_of,
    make_plan,
)
from flywheel.train.rows import ALONE, Rows, Team, part_of
from flywheel.trainers.base import Context, pack, refuse_beside, unpack

_NOISE_STD = 0.01
_MOST_EPOCHS = 100
"""a curve of more points says no more"""
_LOOKS, _PATIENCE, _LOOK_ROWS = 20, 5, 256
"""about twenty looks at the validation part; a quarter of them without progress is the end"""

Progress = Callable[[int, int, float], None]
"""called with (epoch counted from 1, epochs, mean loss) after every epoch"""


def starting_network(task: Task, champion: bytes | None, shrink: float) -> torch.nn.Module:
    """Return the network that training starts from.

    Formula: theta = shrink * theta_champion + N(0, 0.01^2) for every parameter; a fresh network
    when there is no champion or `shrink` is 0. A plain warm start generalises worse than a fresh
    one.
    Source: Ash and Adams, "On Warm-Starting Neural Network Training", arXiv 1910.08475.
    Departure: buffers, such as the statistics of a batch norm, are kept as they are, because
    shrinking a measured mean or variance would make it wrong. Rows that the champion lacks, of
    classes added since, begin as in a fresh network.

    Raises:
        TaskError: the champion's weights belong to another network.
    """
    module = task.network()
    if champion is None or shrink == 0:
        return module
    load_weights(module, champion, grown=True)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.mul_(shrink).add_(torch.randn_like(parameter), alpha=_NOISE_STD)
    return module


def fit(
    task: Task,
    settings: Train,
    data: TrainingData,
    *,
    seed: int,
    progress: Progress,
    team: Team = ALONE,
) -> Fitted:
    """Train on the device of the settings, alone or as one process of a team.

    Rows that only say which answer is wrong train if the task has a `loss_not`.

    Raises:
        UserError: a batch has fewer rows than there are processes.
        TaskError: the champion's weights belong to another network.
        FlywheelError: the loss or a weight is not finite.
    """
    device = pick_device(settings.device)
    if task.loss_not is None:
        data = data.only([row for row, name in enumerate(data.origins) if name != FAILED])
    plan = make_plan(data, settings, seed)
    with seeded(seed):
        module = starting_network(task, data.champion, settings.shrink).to(device).train()
        endless = _not_finite(module)
        rows = Rows.read(task, data, device, team)
        # Drawn from the seeded global generator; the task's augmentation must not share it, or
        # changing a dropout layer would change which variations are seen.
        augmenter = torch.Generator(device=device).manual_seed(int(torch.randint(2**31, ())))
        order = team.batch_generator(seed)
        wrapped, is_mixed = team.wrap(module), settings.mixed_precision
        network = _Network(task, wrapped, rows, augmenter, team, is_mixed)
        watch = _Watch(network, module, torch.from_numpy(plan.validation).to(device))
        losses, steps = _epochs(network, settings, plan, watch, order, progress)
        best = watch.restore_best()
    _check_weights(module, endless, settings)
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else device.type
    weights = weights_of(module)
    # Asked in the process that trained it, and from the weights as they are stored.
    with seeded(seed):  # a network is drawn before the weights are put into it
        said = steady_answers(Model(task, weights, device), data.asked) if team.rank == 0 else ()
    return Fitted(
        weights=weights,
        losses=losses,
        device=name,
        card=make_card(task, said),
        recipe=_recipe(data, plan, steps, best),
    )


@dataclass(frozen=True, slots=True, eq=False)
class _Network:
    """The network with all that the loss of a batch needs."""

    task: Task
    module: torch.nn.Module
    rows: Rows
    augmenter: torch.Generator
    team: Team
    is_mixed: bool
    """whether it is asked in bfloat16, whose range is that of float32, so that no loss is scaled"""

    def loss(self, batch: torch.Tensor, inputs: Any) -> torch.Tensor:
        """Return the weighted mean loss of a batch of row indices (B,); in a team, this process's part.

        `inputs` are as `Rows.stream` yields them.

        The sum is divided by the number of rows and not by their weights, so that over an epoch
        every row counts exactly with its weight, whichever batch it falls into. DDP averages the
        gradients of a team, so each part is scaled by its number of rows: the parts of a batch
        may differ in size.
        """
        rows, team = self.rows, self.team
        mine = team.share(len(batch))
        if self.task.augment is not None:
            inputs = part_of(self.task.augment(inputs, self.augmenter), mine)
        batch_size, batch = len(batch), batch[mine]
        output = self.forward(inputs)
        targets = rows.targets_of(batch)
        losses = self.task.loss(output, targets)
        if rows.is_refuted is not None and self.task.loss_not is not None:
            refuting = self.task.loss_not(output, targets)
            losses = torch.where(rows.is_refuted[batch], refuting, losses)
        return (rows.weights[batch] * losses).mean() * (len(batch) * team.size / batch_size)

    def forward(self, inputs: Any) -> Any:
        """Return the output for inputs of some rows; float32, also where it was computed in bfloat16."""
        given = self.rows.batched(inputs)
        if not self.is_mixed:
            with blamed(FORWARD, self.module):
                return self.module(given)
        kind = self.rows.weights.device.type
        with blamed(FORWARD, self.module), torch.autocast(kind, torch.bfloat16):
            output = self.module(given)
        return map_tensors(lambda one: one.float() if one.is_floating_point() else one, output)


@dataclass(slots=True, eq=False)
class _Watch:
    """Keeps the weights of the step with the lowest loss on the validation part."""

    network: _Network
    module: torch.nn.Module
    """that of the network, not wrapped for a team"""
    rows: torch.Tensor
    """(V,) row numbers of the validation part; none: the last step counts"""
    losses: torch.Tensor | None = None
    """(V,) of the best step"""
    step: int = 0
    weights: dict[str, torch.Tensor] = field(default_factory=dict)
    num_worse: int = 0
    """looks in a row that were significantly worse than the best"""

    def look(self, step: int) -> bool:
        """Measure the weights after a step; return whether training should end.

        A validation part is small, and its mean loss mostly noise. So a look is worse only if the
        loss has risen by two standard errors of the difference, paired by row.
        """
        if len(self.rows) == 0:
            return False
        losses = self._measure()
        if self.losses is None or losses.mean() < self.losses.mean():
            self.losses, self.step, self.num_worse = losses, step, 0
            state = self.module.state_dict().items()
            self.weights = {name: value.detach().clone() for name, value in state}
            return False
        rise = losses - self.losses
        is_worse = rise.mean() > 2 * rise.std() / math.sqrt(len(rise))
        self.num_worse = self.num_worse + 1 if is_worse else 0
        return self.num_worse >= _PATIENCE

    def restore_best(self) -> int:
        """Load the best weights if the last are significantly worse; return their step, else 0."""
        if self.num_worse == 0:
            return 0
        self.module.load_state_dict(self.weights)
        return self.step

    def _measure(self) -> torch.Tensor:
        rows, team = self.network.rows, self.network.team
        self.module.eval()
        with torch.inference_mode():
            losses = []
            for batch, inputs in rows.stream(torch.split(self.rows, _LOOK_ROWS)):
                output = self.network.forward(inputs)
                losses.append(self.network.task.loss(output, rows.targets_of(batch)))
        self.module.train()
        # Every process measures all rows; the mean makes them stop at the same step.
        return team.total(torch.cat(losses).clone()) / team.size


def _epochs(
    network: _Network,
    settings: Train,
    plan: Plan,
    watch: _Watch,
    order: torch.Generator | None,
    progress: Progress,
) -> tuple[tuple[float, ...], int]:
    """Train in place; return the mean loss of each epoch, and the number of steps.

    An epoch has as many draws as there are rows, or more where that would make too many epochs.
    """
    team, device = network.team, network.rows.weights.device
    num_training = len(plan.training)
    steps = math.ceil(num_training / settings.batch_size)
    team.check(num_training, steps)
    passes = math.ceil(settings.steps_for(num_training) / steps)
    epochs = min(passes, _MOST_EPOCHS)
    report = _reporter(settings, epochs, progress)
    optimizer = torch.optim.AdamW(
        network.module.parameters(), lr=settings.learning_rate, fused=True
    )
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, passes * steps)
    losses = list[float]()
    done = 0
    for epoch in range(1, epochs + 1):
        total, num_rows = torch.zeros((), device=device), 0
        for _ in range(epoch * passes // epochs - (epoch - 1) * passes // epochs):
            # Batches of nearly equal size: a last batch of one row would break a batch norm.
            batches = plan.draw(order).to(device).tensor_split(steps)
            for batch, inputs in network.rows.stream(batches, team):
                loss = network.loss(batch, inputs)
                optimizer.zero_grad(set_to_none=True)
                loss.backward()  # type: ignore[no-untyped-call]  # torch leaves it untyped
                optimizer.step()
                schedule.step()
                total += loss.detach() * len(batch)
                num_rows, done = num_rows + len(batch), done + 1
        losses.append(team.total(total).item() / team.size / num_rows)
        report(epoch, losses[-1])
        if (epoch % max(1, epochs // _LOOKS) == 0 or epoch == epochs) and watch.look(done):
            break
    return tuple(losses), done


def _reporter(settings: Train, epochs: int, progress: Progress) -> Callable[[int, float], None]:
    """Return a callback that passes a finite loss on and raises for any other."""

    def report(epoch: int, loss: float) -> None:
        if not math.isfinite(loss):
            raise FlywheelError(
                f"the training loss is {loss} in epoch {epoch} of {epochs}; lower "
                f"train.learning_rate = {settings.learning_rate}, for example to a tenth, or run "
                "flywheel check to find inputs and labels that are not finite"
            )
        progress(epoch, epochs, loss)

    return report


def _not_finite(module: torch.nn.Module) -> dict[str, torch.Tensor]:
    """Copies of the buffers and frozen weights that hold an infinity, as a mask of attention does."""
    trains = {name for name, value in module.named_parameters() if value.requires_grad}
    return {
        name: value.detach().clone()
        for name, value in module.state_dict().items()
        if name not in trains and value.is_floating_point() and not bool(value.isfinite().all())
    }


def _check_weights(
    module: torch.nn.Module, endless: Mapping[str, torch.Tensor], settings: Train
) -> None:
    """Raise an error for weights that the last step made infinite after a finite last loss.

    What was infinite before training, and is still the same, is meant to be.
    """
    for name, value in module.state_dict().items():
        if not value.is_floating_point() or bool(value.isfinite().all()):
            continue
        if name not in endless or not torch.allclose(value, endless[name], equal_nan=True):
            raise FlywheelError(
                f"the weights {name!r} are not finite after the last epoch; lower "
                f"train.learning_rate = {settings.learning_rate}, for example to a tenth"
            )


def _recipe(data: TrainingData, plan: Plan, steps: int, best: int) -> str:
    """Return how a network was trained, in a sentence."""
    kinds = kinds_of(data.only(plan.training.tolist()))
    chosen = f"; {plan.note}, so the last step counts" if plan.note else ""
    if len(plan.validation):
        which = f"step {best} is better than later ones" if best else "the last step counts"
        chosen = f"; {which}, by the loss on {len(plan.validation)} held-out labels"
    share = f"{plan.production_share:.0%} of each epoch from production"
    return f"{steps} steps on {len(plan.training)} rows ({kinds}), {share}{chosen}"


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
        UserError: there are fewer than two rows, or only one answer.
        TaskError: the champion's weights belong to another network.
        FlywheelError: the loss or a weight is not finite.
    """
    check_learnable(data)
    stopwatch = time.perf_counter()
    if task.trainer is None:
        fitted = fit(task, settings, data, seed=seed, progress=progress)
    else:
        fitted = _fit_own(task, settings, data, seed, progress)
    seconds = time.perf_counter() - stopwatch
    return fitted.with_record(settings, data, seed=seed, seconds=seconds, now=now)


def _fit_own(
    task: Task, settings: Train, data: TrainingData, seed: int, progress: Progress
) -> Fitted:
    """Train with the task's own trainer; rows that only say which answer is wrong are left out."""
    data = data.only([row for row, name in enumerate(data.origins) if name != FAILED])
    device, losses = pick_device(settings.device), list[float]()

    def report(epoch: int, epochs: int, loss: float) -> None:
        losses.append(float(loss))
        progress(epoch, epochs, float(loss))

    with tempfile.TemporaryDirectory(prefix="flywheel-training-") as name, isolated():
        champion = None
        if data.champion is not None:
            champion = Path(name, "champion")
            unpack(data.champion, champion)
        folder = Path(name, "artifact")
        folder.mkdir()
        context = Context(
            folder=folder, champion=champion, seed=seed, device=str(device), progress=report
        )
        seed_all(seed)
        called = guard("train of the task's trainer", task.trainer.train, _is_folder)  # type: ignore[union-attr]
        left = called(data.as_rows(), context) or folder
        refuse_beside(Path(name), left)
        artifact = pack(left)
    said = steady_answers(Model(task, artifact, device), data.asked)
    return Fitted(
        weights=artifact,
        losses=tuple(losses),
        device=str(device),
        card=make_card(task, said),
        recipe=f"{type(task.trainer).__name__} on {len(data.samples)} rows ({kinds_of(data)})",
    )


def _is_folder(found: Any, _: tuple[Any, ...]) -> str:
    is_so = found is None or (isinstance(found, Path) and found.is_dir())
    return "" if is_so else "the Path of the folder that it wrote, or None for context.folder"
