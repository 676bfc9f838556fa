"""Measures a candidate, the champion and every baseline on one frozen test set, in one pass."""

from flywheel.evaluate.evaluation import Contest, Evaluation, EvaluationData, evaluate
from flywheel.evaluate.rows import Rows

__all__ = ["Contest", "Evaluation", "EvaluationData", "Rows", "evaluate"]
