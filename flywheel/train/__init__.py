"""Turns a dataset version into a checkpoint: weights and the record of what made them."""

from flywheel.train.data import Trained, TrainingData
from flywheel.train.loop import train

__all__ = ["Trained", "TrainingData", "train"]
