"""Formulas over per-sample scores, as they stand in flywheel.toml: text -> tree.

Below the settings, so that a formula that cannot be is told when they are read. Refuses to
compute anything: that is the part of `flywheel.evaluate.metric`.
"""

from flywheel.formulas.conditions import Limit, contradiction, parse_condition
from flywheel.formulas.parse import LATENCY, parse_formula
from flywheel.formulas.tree import (
    Aggregate,
    Combination,
    Formula,
    Function,
    Number,
    is_share,
    leaves,
)

__all__ = [
    "LATENCY",
    "Aggregate",
    "Combination",
    "Formula",
    "Function",
    "Limit",
    "Number",
    "contradiction",
    "is_share",
    "leaves",
    "parse_condition",
    "parse_formula",
]
