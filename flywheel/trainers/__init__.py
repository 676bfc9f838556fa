"""Trainers for models that are no network of ours: what a task gives as its `model`.

`SklearnTrainer` fits an estimator of scikit-learn, `CommandTrainer` runs any program. Others are
objects with the two methods of `Trainer`.
"""

from flywheel.trainers.base import Context, Predict, Row, Trainer, TrainingSet, class_answers
from flywheel.trainers.command import CommandTrainer
from flywheel.trainers.estimator import SklearnTrainer, text_of

__all__ = [
    "CommandTrainer",
    "Context",
    "Predict",
    "Row",
    "SklearnTrainer",
    "Trainer",
    "TrainingSet",
    "class_answers",
    "text_of",
]
