"""Labels in files, as other programs write and read them; nothing here knows a ledger or a task."""

from flywheel.label_files.find import Format, open_labels
from flywheel.label_files.rows import Columns, FileRow, LabelFile, LeftOut, Part, splits_of
from flywheel.label_files.write import Exported, Layout, export_rows

__all__ = [
    "Columns",
    "Exported",
    "FileRow",
    "Format",
    "LabelFile",
    "Layout",
    "LeftOut",
    "Part",
    "export_rows",
    "open_labels",
    "splits_of",
]
