"""Ready-made labelings: what is shown of a sample, and what is asked about it.

`choice(text(), ["a", "b"])` is a whole `flywheel.task.Labeling`: Label Studio's config, what
annotators see, the pre-annotation, the parsing of annotations, when two agree, what stands for
several, and for marks on pictures their drawing. README.md has the table of what goes with what.
"""

from flywheel.labeling.entries import choice, choices, free_text, number
from flywheel.labeling.marks import boxes, keypoints, polygons
from flywheel.labeling.passages import spans
from flywheel.labeling.views import Shown, audio, html, image, row_of, table, text, text_of

__all__ = [
    "Shown",
    "audio",
    "boxes",
    "choice",
    "choices",
    "free_text",
    "html",
    "image",
    "keypoints",
    "number",
    "polygons",
    "row_of",
    "spans",
    "table",
    "text",
    "text_of",
]
