"""What people look at: the pages of a night and of its steps, a sample's life, where things stand."""

from flywheel.report.asked import file_dossier
from flywheel.report.dossier import write_dossier
from flywheel.report.labeling import LABELING_PAGE, write_labeling
from flywheel.report.life import Event, trace
from flywheel.report.night import baseline_rows, night_page
from flywheel.report.nights import nights_frame
from flywheel.report.page import write_report
from flywheel.report.places import address
from flywheel.report.standing import Status, status
from flywheel.report.steps import falls_short, step_page, summarize
from flywheel.report.story import STORY_PAGE, Pair, Story, write_story
from flywheel.report.wheel import WHEEL_PAGE, write_wheel

__all__ = [
    "LABELING_PAGE",
    "STORY_PAGE",
    "WHEEL_PAGE",
    "Event",
    "Pair",
    "Status",
    "Story",
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
    "write_report",
    "write_story",
    "write_wheel",
]
