"""Chooses the samples that are most worth annotating, within the budget."""

from flywheel.select.pool import Serving
from flywheel.select.stage import Rivals, select_batch
from flywheel.select.strategies import Pool, Strategy, diverse, find_strategy

__all__ = ["Pool", "Rivals", "Serving", "Strategy", "diverse", "find_strategy", "select_batch"]
