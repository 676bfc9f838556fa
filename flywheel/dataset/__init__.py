"""Makes immutable dataset versions from the labels, without leaks between the splits."""

from flywheel.dataset.copies import Copy
from flywheel.dataset.leakage import CopiesError, Dropped
from flywheel.dataset.stage import VersionMade, export_version, make_version
from flywheel.dataset.start import changed_start_data, check_start_data, take_start_data

__all__ = [
    "CopiesError",
    "Copy",
    "Dropped",
    "VersionMade",
    "changed_start_data",
    "check_start_data",
    "export_version",
    "make_version",
    "take_start_data",
]
