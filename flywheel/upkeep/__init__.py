"""Maintains a project: check it, back it up, restore it, delete what is no longer needed."""

from flywheel.upkeep.backup import back_up
from flywheel.upkeep.cleaning import Cleaned, clean
from flywheel.upkeep.doctor import examine
from flywheel.upkeep.restoring import restore

__all__ = [
    "Cleaned",
    "back_up",
    "clean",
    "examine",
    "restore",
]
