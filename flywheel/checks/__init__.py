"""The contract of `flywheel.task.Task` as named, executable laws that hold for every task."""

from flywheel.checks.contract import LAWS, Broken, check_metric, check_task
from flywheel.checks.fresh import Source, ask_elsewhere

__all__ = ["LAWS", "Broken", "Source", "ask_elsewhere", "check_metric", "check_task"]
