"""Folds the labels into an immutable, leak-free version of the data set."""

from flywheel.dataset.leakage import Dropped, keep_splits_apart
from flywheel.dataset.stage import VersionMade, make_version

__all__ = ["Dropped", "VersionMade", "keep_splits_apart", "make_version"]
