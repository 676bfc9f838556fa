"""A model in production that gets better every night."""

from flywheel.errors import FlywheelError
from flywheel.pictures import open_picture
from flywheel.project import Project, load_project
from flywheel.records import Answer, Media, Sample
from flywheel.task import Baseline, Example, Labeling, Task

__all__ = [
    "Answer",
    "Baseline",
    "Example",
    "FlywheelError",
    "Labeling",
    "Media",
    "Project",
    "Sample",
    "Task",
    "load_project",
    "open_picture",
]
