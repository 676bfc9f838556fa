"""Turns a report into a decision with all its reasons, and into a recommended next step."""

from flywheel.decide.challenge import Standing, next_challenge, share_of_alpha
from flywheel.decide.decomposition import Term, decompose, tightest_bound
from flywheel.decide.eprocess import e_values
from flywheel.decide.gate import decide
from flywheel.decide.next_step import next_step
from flywheel.decide.plan import Planned, labels_to_go, plan_gains
from flywheel.decide.vetoes import condition, significantly_misses

__all__ = [
    "Planned",
    "Standing",
    "Term",
    "condition",
    "decide",
    "decompose",
    "e_values",
    "labels_to_go",
    "next_challenge",
    "next_step",
    "plan_gains",
    "share_of_alpha",
    "significantly_misses",
    "tightest_bound",
]
