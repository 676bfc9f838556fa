"""Turns a dataset version into a checkpoint: weights and the record of what made them."""

from flywheel.train.data import Trained, TrainingData
from flywheel.train.fit import train
from flywheel.train.together import Trainers, train_together

__all__ = ["Trained", "Trainers", "TrainingData", "train", "train_together"]
