"""Measures candidate, champion and all baselines on one frozen test set, in one pass."""

from flywheel.evaluate.book import Context, Part, Rows, unpack_book
from flywheel.evaluate.evaluation import (
    Challenger,
    Contest,
    Evaluation,
    EvaluationData,
    answered_right,
    evaluate,
    latency_fault,
    logged_right,
    outcomes_of,
    values_of,
)
from flywheel.evaluate.measure import Rules, measure
from flywheel.evaluate.production import Population, Returned, production_estimate
from flywheel.evaluate.scoring import Piece, Spread, score_models
from flywheel.evaluate.suggest import Advice, suggest

__all__ = [
    "Advice",
    "Challenger",
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
    "evaluate",
    "latency_fault",
    "logged_right",
    "measure",
    "outcomes_of",
    "production_estimate",
    "score_models",
    "suggest",
    "unpack_book",
    "values_of",
]
