"""Predictions and feedback of a server that is not ours: from files, and over HTTP."""

from flywheel.intake.files import Row, json_row, open_log
from flywheel.intake.pieces import Brought, Preview, bring, look_at
from flywheel.intake.rows import Kind, Reading
from flywheel.intake.store import Placing, Taken, pieces_of, read_rows, take

__all__ = [
    "Brought",
    "Kind",
    "Placing",
    "Preview",
    "Reading",
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
