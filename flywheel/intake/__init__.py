"""Predictions and feedback of a server that is not ours: from files, and over HTTP."""

from flywheel.intake.files import LogFile, open_log
from flywheel.intake.pieces import Brought, bring
from flywheel.intake.preview import Preview, look_at
from flywheel.intake.rows import Kind, Reading, Rejected
from flywheel.intake.store import Placing, Taken, take

__all__ = [
    "Brought",
    "Kind",
    "LogFile",
    "Placing",
    "Preview",
    "Reading",
    "Rejected",
    "Taken",
    "bring",
    "look_at",
    "open_log",
    "take",
]
