"""Turns a dataset version into a checkpoint: the weights and a record of how they were made."""

from flywheel.train.data import SUBMITTED, Trained, TrainingData
from flywheel.train.distributed import Trainers, train_distributed
from flywheel.train.fit import train

__all__ = [
    "SUBMITTED",
    "Trained",
    "Trainers",
    "TrainingData",
    "train",
    "train_distributed",
]
