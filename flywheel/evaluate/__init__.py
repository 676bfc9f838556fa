"""Measures a candidate, the champion and every baseline on one frozen test set, in one pass."""

from flywheel.evaluate.book import unpack_book
from flywheel.evaluate.context import Context
from flywheel.evaluate.evaluation import Contest, Evaluation, EvaluationData, evaluate
from flywheel.evaluate.measure import Rules, measure
from flywheel.evaluate.rows import Rows

__all__ = [
    "Contest",
    "Context",
    "Evaluation",
    "EvaluationData",
    "Rows",
    "Rules",
    "evaluate",
    "measure",
    "unpack_book",
]
