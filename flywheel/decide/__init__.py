"""Turns a report into a decision with all its reasons, and into a recommended next step."""

from flywheel.decide.challenge import Standing, next_challenges, share_of_alpha, taken_over
from flywheel.decide.decomposition import Term, decompose, tightest_bound
from flywheel.decide.gate import decide
from flywheel.decide.next_step import goes_back_to, next_step
from flywheel.decide.plan import Leaning, Planned, plan_gains
from flywheel.decide.vetoes import condition, significantly_misses
from flywheel.metrics.eprocess import e_value, e_values, rate_bound, watch

__all__ = [
    "Leaning",
    "Planned",
    "Standing",
    "Term",
    "condition",
    "decide",
    "decompose",
    "e_value",
    "e_values",
    "goes_back_to",
    "next_challenges",
    "next_step",
    "plan_gains",
    "rate_bound",
    "share_of_alpha",
    "significantly_misses",
    "taken_over",
    "tightest_bound",
    "watch",
]
