"""The contract of `flywheel.task.Task` as named laws that run.

A law says what holds for every task; it refuses to know any one task's answers.
"""

from flywheel.checks.contract import LAWS, Broken, check_task
from flywheel.checks.metric import check_metric

__all__ = ["LAWS", "Broken", "check_metric", "check_task"]
