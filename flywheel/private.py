"""Files that only their owner reads: the state folder of a project, and secrets drawn at random."""

from __future__ import annotations

import os
import secrets
import stat
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

PRIVATE_MASK = 0o077
"""umask of every process that writes state: others get no right on a new file"""


def private_folder(path: Path) -> Path:
    """Return a folder that only its owner enters; it is made, or closed to others, where needed."""
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    _close(path)
    return path


def open_to_others(folder: Path) -> Iterator[Path]:
    """Yield the folder and everything in it that another user has a right on; links are skipped."""
    if not folder.exists():
        return
    if _mode(folder) & PRIVATE_MASK:
        yield folder
    for place, folders, files in os.walk(folder):
        for path in (Path(place, name) for name in (*folders, *files)):
            if _mode(path) & PRIVATE_MASK:
                yield path


def make_private(folder: Path) -> int:
    """Close a folder and everything in it to other users; return how many rights were removed."""
    found = list(open_to_others(folder))
    for path in found:
        _close(path)
    return len(found)


def drawn_secret(path: Path) -> str:
    """Return the secret that a file holds; the first call draws it at random, mode 0600."""
    with suppress(FileNotFoundError):
        return path.read_text(encoding="utf-8")
    private_folder(path.parent)
    draft = path.with_name(f".{path.name}.{os.getpid()}.{secrets.token_hex(4)}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(secrets.token_urlsafe(32))
    try:
        with suppress(FileExistsError):  # of two that draw at once the first one counts
            path.hardlink_to(draft)
    finally:
        draft.unlink()
    return path.read_text(encoding="utf-8")


def write_private(path: Path, text: str) -> None:
    """Replace a file in one step by one that only its owner reads."""
    scratch = path.with_suffix(f".{os.getpid()}.tmp")
    scratch.unlink(missing_ok=True)
    descriptor = os.open(scratch, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(text)
    scratch.replace(path)


def is_private(folder: Path) -> bool:
    """Whether a folder is a real one of this user that no other can enter or write."""
    found = folder.lstat()
    is_ours = stat.S_ISDIR(found.st_mode) and found.st_uid == os.getuid()
    return is_ours and not found.st_mode & PRIVATE_MASK


def _mode(path: Path) -> int:
    """The mode of a file or folder; 0 for a link, and for what has gone meanwhile."""
    try:
        mode = path.lstat().st_mode
    except FileNotFoundError:
        return 0
    return 0 if stat.S_ISLNK(mode) else mode


def _close(path: Path) -> None:
    """Remove the rights of others; flywheel doctor reports what belongs to another user."""
    mode = _mode(path)
    if mode & PRIVATE_MASK:
        with suppress(PermissionError, FileNotFoundError):
            path.chmod(stat.S_IMODE(mode) & ~PRIVATE_MASK)
