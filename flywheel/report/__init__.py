"""Pages of nights, steps, labeling and decisions; the life of a sample; the project's status."""

from flywheel.report.dossier import file_dossier, write_dossier
from flywheel.report.history import nights_frame
from flywheel.report.kit.pages import address
from flywheel.report.labeling.page import LABELING_PAGE, write_labeling
from flywheel.report.night.page import baseline_rows, night_page, write_report
from flywheel.report.night.steps import falls_short, step_page, summarize
from flywheel.report.overview.page import OVERVIEW_PAGE, write_overview
from flywheel.report.status import Status, status
from flywheel.report.trace import Event, trace

__all__ = [
    "LABELING_PAGE",
    "OVERVIEW_PAGE",
    "Event",
    "Status",
    "address",
    "baseline_rows",
    "falls_short",
    "file_dossier",
    "night_page",
    "nights_frame",
    "status",
    "step_page",
    "summarize",
    "trace",
    "write_dossier",
    "write_labeling",
    "write_overview",
    "write_report",
]
