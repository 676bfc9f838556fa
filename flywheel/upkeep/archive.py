"""Reads and writes the files of a back-up in a folder; each is hashed.

The folder is written under another name and renamed last, with its manifest inside, so that half
a back-up never looks complete.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import IO, Any
from uuid import uuid4

from flywheel.errors import UserError

MANIFEST = "manifest.json"
_FORMAT = 1
_PIECE_BYTES = 1 << 20
_PRIVATE = 0o600


class Writer:
    """Adds files to a back-up that is not visible yet; `write_archive` makes one."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.files: dict[str, tuple[str, int]] = {}
        """name -> SHA-256 and size of what `add_file` added"""

    def add_bytes(self, name: str, data: bytes) -> None:
        """Add bytes under a name; their hash is not remembered."""
        copy_hashed(io.BytesIO(data), self._folder / name)

    def add_file(self, name: str, path: Path) -> None:
        """Add a file and remember its hash."""
        with path.open("rb") as file:
            self.files[name] = copy_hashed(file, self._folder / name)


@contextmanager
def write_archive(target: Path) -> Iterator[Writer]:
    """A writer of a new back-up.

    The folder appears under its name at the end of the block, durable; an error leaves nothing.

    Raises:
        UserError: the target exists already.
    """
    if target.exists():
        raise UserError(f"{target} exists already; give a new name, nothing is overwritten")
    draft = target.with_name(f".{target.name}.{uuid4().hex}.partial")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        draft.mkdir(mode=0o700)
        yield Writer(draft)
        draft.rename(target)
        _sync_folder(target.parent)
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def read_archive(source: Path) -> Iterator[tuple[str, IO[bytes]]]:
    """Every file of a back-up with its name."""
    for path in sorted(source.rglob("*")):
        if path.is_file():
            with path.open("rb") as file:
                yield path.relative_to(source).as_posix(), file


def read_manifest(data: bytes, source: Path) -> dict[str, Any]:
    """The manifest of a back-up.

    Raises:
        UserError: it is not a manifest, or of another format.
    """
    try:
        manifest = dict(json.loads(data))
        known = manifest["format"] == _FORMAT and all(map(_is_inside, manifest["files"]))
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(
            f"{source}: its {MANIFEST} cannot be read ({error!r}); use another back-up"
        ) from error
    if not known:
        raise UserError(
            f"{source} has format {manifest['format']!r}, this flywheel reads {_FORMAT}; "
            f"install flywheel {manifest.get('flywheel')}, which wrote it"
        )
    return manifest


def copy_hashed(file: IO[bytes], path: Path) -> tuple[str, int]:
    """Copy a file to a new path; returns its SHA-256 and its size in bytes."""
    path.parent.mkdir(parents=True, exist_ok=True)
    reader = _Hashing(file)
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, _PRIVATE), "wb") as out:
        shutil.copyfileobj(reader, out, _PIECE_BYTES)
        out.flush()
        size = os.fstat(out.fileno()).st_size
        os.fsync(out.fileno())
    return reader.digest.hexdigest(), size


class _Hashing:
    """A file that hashes what is read from it."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self.digest = hashlib.sha256()

    def read(self, size: int = -1) -> bytes:
        data = self._file.read(size)
        self.digest.update(data)
        return data


def _is_inside(name: str) -> bool:
    path = PurePosixPath(name)
    return bool(name) and not path.is_absolute() and ".." not in path.parts


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
