"""Maintains a project: check it, back it up, restore it, delete what is no longer needed."""

from flywheel.upkeep.backup import BackedUp, back_up
from flywheel.upkeep.cleaning import Cleaned, Swept, clean
from flywheel.upkeep.doctor import examine
from flywheel.upkeep.machine import Finding
from flywheel.upkeep.restoring import Restored, restore

__all__ = [
    "BackedUp",
    "Cleaned",
    "Finding",
    "Restored",
    "Swept",
    "back_up",
    "clean",
    "examine",
    "restore",
]
