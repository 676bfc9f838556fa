"""The data files that a task's source names: found, kept, and put back as they once were.

A class list or a vocabulary in a file beside the task is part of a model as its code is. A file
counts as read if its path, or its name and that of its folder, are texts in the source: what a
process happened to open depends on what it was asked and on what it remembers.
"""

from __future__ import annotations

import ast
import base64
import hashlib
import json
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from flywheel.records import canonical, content_id

_MOST_BYTES = 256_000
"""of a longer file only the digest is kept"""
_NO_DATA = {"flywheel.toml", ".py", ".pyc"}
_BY_DIGEST = "sha256:"
_THEN_FOLDERS: dict[str, tempfile.TemporaryDirectory[str]] = {}
"""the data files of then, until the process ends: a task may read one when it answers"""


def items_of(content: str | None) -> Any:
    """The items of a list in JSON, or the lines of a text; the digest of anything else."""
    if content is None or content.startswith(_BY_DIGEST):
        return content
    data = base64.b64decode(content)
    try:
        text = data.decode("utf-8-sig")
        value = json.loads(text)
    except UnicodeDecodeError:
        return hashlib.sha256(data).hexdigest()
    except (ValueError, RecursionError):
        return text.splitlines()
    return value if isinstance(value, list) else text


def folder_of_then(files: Mapping[str, str], root: Path) -> Path:
    """A folder with the data files as they were, and all else as it is; the root if none changed."""
    changed = {
        path: content
        for path, content in files.items()
        if not content.startswith(_BY_DIGEST)
        and not (_is_data(root / path) and content_of(root / path) == content)
    }
    if not changed:
        return root
    key = content_id(canonical([str(root), changed]).encode())
    if key not in _THEN_FOLDERS:
        made = tempfile.TemporaryDirectory(prefix="flywheel-then-")
        folder = Path(made.name)
        for path, content in changed.items():
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            (folder / path).write_bytes(base64.b64decode(content))
        for inner in {parent for path in changed for parent in Path(path).parents}:
            for entry in (root / inner).iterdir() if _is_dir(root / inner) else ():
                with suppress(FileExistsError):
                    (folder / inner / entry.name).symlink_to(entry)
        _THEN_FOLDERS[key] = made
    return Path(_THEN_FOLDERS[key].name)


def named_files(texts: Sequence[str], file: Path, folders: Sequence[Path]) -> Iterator[Path]:
    """The files whose names, alone or below a folder that is named too, are texts in a source."""
    suffixes = [text for text in texts if text.rfind(".") == 0 and text[1:].isalnum()]
    names = [text for text in texts if not any(part[:1] in ("", ".") for part in text.split("/"))]
    below = [folder / name for folder in folders for name in names if _is_dir(folder / name)]
    for folder in dict.fromkeys([*folders, *below]):
        yield from (path for name in names if _is_data(path := folder / name))
    yield from (path for suffix in suffixes if _is_data(path := file.with_suffix(suffix)))


def _is_dir(path: Path) -> bool:
    with suppress(OSError):  # of a folder that is not ours to look into
        return path.is_dir()
    return False


def _is_data(path: Path) -> bool:
    if path.suffix in _NO_DATA or path.name in _NO_DATA:
        return False
    with suppress(OSError), path.open("rb"):
        return True
    return False


def texts_of(text: str) -> list[str]:
    """The texts in a source that are short enough for a path."""
    try:
        tree = ast.parse(text)
    except SyntaxError:
        return []
    found = {
        node.value
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    }
    return sorted(one for one in found if one.isprintable() and 0 < len(one.encode()) < 200)


def content_of(path: Path) -> str:
    """The content of a file as base64, or its digest where it is long."""
    if path.stat().st_size > _MOST_BYTES:
        with path.open("rb") as file:
            return _BY_DIGEST + hashlib.file_digest(file, "sha256").hexdigest()
    return base64.b64encode(path.read_bytes()).decode()
