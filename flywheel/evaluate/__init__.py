"""Measures candidate, champion and all baselines on one frozen test set, in one pass."""

from flywheel.evaluate.book import Part, Rows, unpack_book
from flywheel.evaluate.context import Context
from flywheel.evaluate.evaluation import (
    Contest,
    Evaluation,
    EvaluationData,
    answered_right,
    evaluate,
    latency_fault,
)
from flywheel.evaluate.measure import Rules, measure
from flywheel.evaluate.production import Population, Returned, production_estimate
from flywheel.evaluate.scoring import Piece, Spread, score_models
from flywheel.evaluate.suggest import Advice, suggest
from flywheel.metrics.compiled import compile_condition, compile_formula
from flywheel.metrics.names import has_unit

__all__ = [
    "Advice",
    "Contest",
    "Context",
    "Evaluation",
    "EvaluationData",
    "Part",
    "Piece",
    "Population",
    "Returned",
    "Rows",
    "Rules",
    "Spread",
    "answered_right",
    "compile_condition",
    "compile_formula",
    "evaluate",
    "has_unit",
    "latency_fault",
    "measure",
    "production_estimate",
    "score_models",
    "suggest",
    "unpack_book",
]
