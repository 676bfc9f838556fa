"""Chooses the samples that are most worth annotating, within the budget."""

from flywheel.select.stage import select_batch

__all__ = ["select_batch"]
