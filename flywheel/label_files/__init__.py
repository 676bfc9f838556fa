"""Labels in files, as other programs write and read them; nothing here knows a ledger or a task."""

from flywheel.label_files.write import LAYOUTS, Exported, Layout, export_rows

__all__ = ["LAYOUTS", "Exported", "Layout", "export_rows"]
