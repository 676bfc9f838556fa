"""Turns a dataset version into a checkpoint: weights and the record of what made them."""

from flywheel.train.data import Trained, TrainingData
from flywheel.train.distributed import Trainers, train_distributed
from flywheel.train.fit import train

__all__ = ["Trained", "Trainers", "TrainingData", "train", "train_distributed"]
