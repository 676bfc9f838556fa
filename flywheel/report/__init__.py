"""What people look at: the pages of a night and of its steps, a sample's life, where things stand."""

from flywheel.report.life import Event, trace
from flywheel.report.night import night_page
from flywheel.report.page import write_report
from flywheel.report.standing import Status, status
from flywheel.report.steps import step_page

__all__ = ["Event", "Status", "night_page", "status", "step_page", "trace", "write_report"]
