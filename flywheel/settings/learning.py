"""What is collected, kept apart and trained on: sections [collect], [sensors], [dataset] and [train]."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from flywheel.settings.base import Fraction, Section


class Collect(Section):
    """Section [collect]."""

    low_confidence: Fraction = 0.7
    """predictions below are suspect"""
    hard_samples: int = Field(default=50, ge=1)
    """low-confidence predictions waiting that trigger a label-hard-cases run"""


class Sensors(Section):
    """Section [sensors]: what the world says back as labels, which train and never test."""

    correction_reliability: Fraction = 0.0
    """weight in training of a correction, such as the pose of a marker; 0: it is no label"""
    outcome_reliability: Fraction = 0.0
    """the same of the model's own answer, once the outcome says that it worked"""


class Dataset(Section):
    """Section [dataset]."""

    group: str | None = None
    """metadata key; samples that share its value never cross a split"""
    test_groups: Annotated[float, Field(gt=0, lt=1)] = 0.3
    """share of the groups that can only test, fixed by hash before selection"""
    near_duplicate: Annotated[float, Field(gt=0, le=1)] = 0.999
    """correlation of two model inputs from which a training sample counts as a copy of a test sample"""


class Train(Section):
    """Section [train]."""

    epochs: int = Field(default=20, ge=1)
    batch_size: int = Field(default=64, ge=1)
    learning_rate: float = Field(default=1e-3, gt=0, le=1)
    shrink: Fraction = 0.5
    """warm start: weights of the champion are multiplied by it, 0 starts afresh"""
    hard_share: Fraction = 0.3
    """most of a training epoch that targeted samples may fill"""
    device: str = "auto"
    """auto (GPU when there is one), cpu, cuda, cuda:1"""
    processes: int = Field(default=1, ge=1, le=64)
    """that train together under torchrun, one a GPU; 1: in the run itself"""
    enough_labels: int = Field(default=100, ge=1)
    """labels that no candidate was trained on, from which a night begins without its hour"""
    cpu_threads: int = Field(default=0, ge=0)
    """of training and evaluation on a CPU; 0: as many as torch likes; 1 suits small networks"""
