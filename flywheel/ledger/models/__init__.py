"""Checkpoints, the reports and decisions on them, and the release pointer with its history."""

from flywheel.ledger.models.challenges import (
    Opening,
    all_openings,
    close_challenge,
    last_challenge,
    mean_uses,
    open_challenge,
)
from flywheel.ledger.models.checkpoints import add_checkpoint, get_checkpoint, latest_checkpoint
from flywheel.ledger.models.decisions import (
    add_decision,
    find_decision,
    get_decision,
    last_decision_on,
)
from flywheel.ledger.models.releases import add_release, current_release, release_history
from flywheel.ledger.models.reports import add_report, get_report, report_of_night
from flywheel.ledger.models.rescored import add_rescored, rescored_reports

__all__ = [
    "Opening",
    "add_checkpoint",
    "add_decision",
    "add_release",
    "add_report",
    "add_rescored",
    "all_openings",
    "close_challenge",
    "current_release",
    "find_decision",
    "get_checkpoint",
    "get_decision",
    "get_report",
    "last_challenge",
    "last_decision_on",
    "latest_checkpoint",
    "mean_uses",
    "open_challenge",
    "release_history",
    "report_of_night",
    "rescored_reports",
]
