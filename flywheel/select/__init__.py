"""Chooses the samples most worth a person's time, within the budget."""

from flywheel.select.stage import select_batch

__all__ = ["select_batch"]
