"""Modules of Lightning, trained by its own Trainer with its callbacks and strategies."""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flywheel.batches import map_tensors
from flywheel.errors import SettingsError, TaskError
from flywheel.records import Answer, Json, Sample
from flywheel.trainers.base import Context, Predict, TrainingSet

if TYPE_CHECKING:
    import torch

_FILE = "module.safetensors"


@dataclass(frozen=True, kw_only=True, slots=True)
class LightningTrainer:
    """A trainer that fits a LightningModule.

    Its `training_step` gets batches (inputs, targets, weights): what the two functions below return
    for some rows, and (B,) float32. The artifact is its state as safetensors; a champion's is where
    the next training starts.
    """

    module: Callable[[], Any]
    """a fresh LightningModule; called with inputs, it returns what `answers` takes"""
    inputs: Callable[[Sequence[Sample]], Any]
    """samples -> a tensor or a tree of tensors; raises PayloadError for a sample that cannot be read"""
    targets: Callable[[Sequence[Json]], Any]
    """answers -> what the loss compares with"""
    answers: Callable[[Any], list[Answer]]
    """the module's output -> one answer a row"""
    arguments: Mapping[str, Any] = field(default_factory=dict)
    """of `lightning.Trainer`, such as max_epochs, precision or callbacks"""
    batch_size: int = 32

    def train(self, rows: TrainingSet, context: Context) -> None:
        """Fit on all rows, each read when it is due."""
        from safetensors.torch import save_file  # noqa: PLC0415 - with the extra lightning
        from torch.utils.data import DataLoader  # noqa: PLC0415 - with the extra lightning

        lightning = _lightning()
        lightning.seed_everything(context.seed % 2**32, verbose=False)
        module = self.module()
        if context.champion is not None:
            _put(module, context.champion / _FILE)
        loader: Any = DataLoader(
            range(len(rows)),  # type: ignore[arg-type]  # numbers of rows
            batch_size=self.batch_size,
            shuffle=True,
            collate_fn=partial(self._batch, rows),
        )
        with tempfile.TemporaryDirectory() as scratch:
            usual = {
                "max_epochs": 20,
                "accelerator": "cpu" if context.device == "cpu" else "auto",
                "devices": 1,
                "logger": False,
                "enable_checkpointing": False,
                "enable_progress_bar": False,
                "enable_model_summary": False,
                "default_root_dir": scratch,
            }
            given = {**usual, **self.arguments}
            given["callbacks"] = [*(given.get("callbacks") or []), _progress(lightning, context)]
            lightning.Trainer(**given).fit(module, loader)
        state = module.cpu().state_dict().items()
        save_file(
            {name: value.contiguous().clone() for name, value in state}, context.folder / _FILE
        )

    def load(self, folder: Path, device: str) -> Predict:
        """Load the module from an artifact."""
        import torch  # noqa: PLC0415 - with the extra lightning

        module = self.module()
        _put(module, folder / _FILE)
        module.to(device).eval()

        def predict(samples: Sequence[Sample]) -> list[Answer]:
            given = map_tensors(lambda one: one.to(device), self.inputs(samples))
            with torch.inference_mode():
                return self.answers(module(given))

        return predict

    def _batch(self, rows: TrainingSet, numbers: Sequence[int]) -> tuple[Any, Any, torch.Tensor]:
        import torch  # noqa: PLC0415 - with the extra lightning

        some = [rows[number] for number in numbers]
        inputs = self.inputs([row.sample for row in some])
        weights = torch.tensor([row.weight for row in some], dtype=torch.float32)
        return inputs, self.targets([row.answer for row in some]), weights


def _put(module: Any, file: Path) -> None:
    from safetensors.torch import load_file  # noqa: PLC0415 - with the extra lightning

    try:
        module.load_state_dict(load_file(file))
    except (RuntimeError, OSError) as error:
        raise TaskError(
            f"the artifact does not fit the module: {' '.join(str(error).split())[:200]}. Undo the "
            "change of the module"
        ) from error


def _progress(lightning: Any, context: Context) -> Any:
    class Report(lightning.Callback):  # type: ignore[misc]  # known when it is installed
        def on_train_epoch_end(self, trainer: Any, _module: Any) -> None:
            loss = trainer.callback_metrics.get("loss", float("nan"))
            context.progress(trainer.current_epoch + 1, trainer.max_epochs or 0, float(loss))

    return Report()


def _lightning() -> Any:
    try:
        import lightning  # noqa: PLC0415 - in the extra lightning
    except ImportError as error:
        raise SettingsError(
            "lightning is not installed. Run pip install 'flywheel[lightning]'"
        ) from error
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)  # not its advertisements
    return lightning
