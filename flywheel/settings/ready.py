"""Section [task]: a project without Python."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from flywheel.settings.base import Section


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
                f'sklearn does not train {self.ask}; write trainer = "command" with train and predict'
            )
        if (self.trainer == "command") != bool(self.train and self.predict):
            raise ValueError('train and predict go with trainer = "command"; write all three')
        return self
