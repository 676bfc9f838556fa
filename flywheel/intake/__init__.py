"""Predictions and feedback of a server that is not ours: from files, and over HTTP."""

from flywheel.intake.files import LogFile, Row, json_row, open_log
from flywheel.intake.pieces import Brought, Preview, bring, look_at
from flywheel.intake.rows import Kind, Reading, Rejected
from flywheel.intake.store import Placing, Taken, pieces_of, read_rows, take

__all__ = [
    "Brought",
    "Kind",
    "LogFile",
    "Placing",
    "Preview",
    "Reading",
    "Rejected",
    "Row",
    "Taken",
    "bring",
    "json_row",
    "look_at",
    "open_log",
    "pieces_of",
    "read_rows",
    "take",
]
