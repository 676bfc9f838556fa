"""What is collected, kept apart and trained on: [collect], [select], [sensors], [dataset], [train], [task]."""

from __future__ import annotations

import math
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from flywheel.settings.base import Fraction, Section

STRATEGIES = ("random", "diverse", "coverage", "lcmd")


def _strategy(name: str) -> str:
    if name not in STRATEGIES and ":" not in name:
        raise ValueError(
            f"{name!r} is not a strategy; write one of {', '.join(STRATEGIES)}, or module:function"
        )
    return name


class Collect(Section):
    """Section [collect]."""

    low_confidence: Fraction = 0.7
    """predictions below are suspect"""
    hard_samples: int = Field(default=50, ge=1)
    """low-confidence predictions waiting that trigger a label-hard-cases run"""


class DriftSettings(Section):
    """Section [drift]."""

    nights_between_false_alarms: int = Field(default=200, ge=10)
    """on average at least, as long as production stays as it was when the model was new"""


class Select(Section):
    """Section [select]."""

    strategy: Annotated[str, AfterValidator(_strategy)] = "diverse"
    """how the targeted share is chosen: random, diverse, coverage, lcmd, or module:function"""


class Sensors(Section):
    """Section [sensors]: what the world says back as labels, which train and never test."""

    correction_reliability: Fraction = 0.0
    """weight in training of a correction, such as the pose of a marker; 0: it is no label"""
    outcomes: int = Field(default=1_000, ge=0)
    """newest outcomes that train, each weighted by how far outcomes have proved right; 0: none"""


class Dataset(Section):
    """Section [dataset]."""

    group: str | None = None
    """metadata key; samples that share its value never cross a split"""
    holdout: Literal["window", "groups"] = "window"
    """window: labels drawn at random test first and train later; groups: some groups only ever test,
    for groups that come again for years, such as patients or devices"""
    window_nights: int = Field(default=7, ge=1)
    """nights after its draw that a label tests before it trains, and longer while a challenge needs it"""
    window_labels: int = Field(default=400, ge=5)
    """newest labels that test; older ones train"""
    test_groups: Annotated[float, Field(gt=0, lt=1)] = 0.3
    """of holdout = "groups": share of the groups that can only test, fixed by hash before selection"""
    near_duplicate: Fraction = 0.9
    """least similarity of copies, measured by what sets inputs apart from the project's mean; 1: only equal inputs, 0: none"""
    most_copies: Fraction = 0.1
    """share of a split that may be dropped as copies before a night stops and shows a pair"""

    @property
    def testing_groups(self) -> float:
        """Share of the groups that can only test: 0 with a window."""
        return self.test_groups if self.holdout == "groups" else 0.0

    @model_validator(mode="after")
    def _groups_that_test(self) -> Dataset:
        if self.holdout == "window" and "test_groups" in self.model_fields_set:
            raise ValueError(
                f"test_groups = {self.test_groups:g} has no effect with a test window; "
                'remove it, or set holdout = "groups"'
            )
        return self


_LEAST_PASSES = 10
"""every row has its chance ten times"""


class Train(Section):
    """Section [train]."""

    steps: int = Field(default=1_000, ge=1)
    """optimizer steps of a training; ten epochs, where that is more"""
    batch_size: int = Field(default=64, ge=1)
    learning_rate: float = Field(default=1e-3, gt=0, le=1)
    shrink: Fraction = 0.5
    """warm start: weights of the champion are multiplied by it, 0 starts afresh"""
    production_share: Fraction = 0.8
    """least part of an epoch that samples from production fill; the rest is start data, drawn anew"""
    validation_share: Fraction = 0.0
    """groups held back to choose the best step and end early, others each night; 0: the last step"""
    device: str = "auto"
    """auto (GPU when there is one), cpu, cuda, cuda:1"""
    processes: int = Field(default=1, ge=1, le=64)
    """that train together under torchrun, one a GPU; 1: in the run itself"""
    num_workers: int = Field(default=0, ge=0, le=256)
    """processes of each trainer that decode rows beyond the memory; 0: threads, faster unless Python decodes"""
    mixed_precision: bool = False
    """forward passes of a training in bfloat16, faster on a GPU; weights and losses stay float32"""
    enough_labels: int = Field(default=100, ge=1)
    """labels that no candidate was trained on, from which a night begins without its hour"""
    cpu_threads: int = Field(default=0, ge=0)
    """of training and evaluation on a CPU; 0: as many as torch likes; 1 suits small networks"""

    def steps_for(self, num_rows: int) -> int:
        """The number of optimizer steps on so many rows."""
        return max(self.steps, _LEAST_PASSES * math.ceil(num_rows / self.batch_size))


class Ready(Section):
    """Section [task]: the data that a project begins with, what is asked of them, and the trainer."""

    data: str
    """file or folder of labels, as `flywheel import-labels` reads it; relative to the project"""
    ask: Literal["choice", "choices", "number", "boxes", "spans"] = "choice"
    """what an answer is; sklearn trains choice and number"""
    trainer: Literal["sklearn", "command"] = "sklearn"
    classes: tuple[str, ...] = Field(default=(), strict=False)
    """of an answer; () are those of the data, and others may come only here"""
    question: str = ""
    """a line above what annotators see"""
    train: str = ""
    """of the trainer command, as `flywheel.trainers.CommandTrainer` says"""
    predict: str = ""
    """the same of its answers"""
    input: str | None = None
    """column of the data with the input; null: found by its name"""
    answer: str | None = None
    """column with the answer; null: found by its name"""
    split: str | None = None
    """column that says train or test; without one a fifth is held out"""

    @model_validator(mode="after")
    def _go_together(self) -> Self:
        if self.trainer == "sklearn" and self.ask not in ("choice", "number"):
            raise ValueError(
                f'sklearn does not train {self.ask}; write trainer = "command", train = "python train.py '
                '--data {{data}} --out {{out}}" and predict = "python predict.py --model {{model}}"'
            )
        if (self.trainer == "command") != bool(self.train and self.predict):
            raise ValueError(
                'train and predict go with trainer = "command"; write all three, as train = "python train.py --data '
                '{data} --out {out}", predict = "python predict.py --model {model}"'
            )
        return self
