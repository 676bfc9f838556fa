"""The single metric: a formula of flywheel.toml as something that computes, checks and has an id.

Refuses to know who is measured, and how sure a number is.
"""

from flywheel.evaluate.metric.compiled import compile_condition, compile_formula
from flywheel.evaluate.metric.condition import Condition
from flywheel.evaluate.metric.identity import metric_id
from flywheel.evaluate.metric.names import check_scores, check_units, has_unit

__all__ = [
    "Condition",
    "check_scores",
    "check_units",
    "compile_condition",
    "compile_formula",
    "has_unit",
    "metric_id",
]
