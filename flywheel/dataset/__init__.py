"""Makes immutable dataset versions from the labels, without leaks between the splits."""

from flywheel.dataset.leakage import Dropped, keep_splits_apart
from flywheel.dataset.stage import VersionMade, make_version

__all__ = ["Dropped", "VersionMade", "keep_splits_apart", "make_version"]
