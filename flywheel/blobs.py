"""Payloads, pictures, manifests and weights by the hash of their content, over fsspec.

A blob never changes: its name says what is in it, so writing one twice is harmless and
reading one checks it. What a blob means stands in the ledger.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from uuid import uuid4

import fsspec
from fsspec.core import url_to_fs
from fsspec.implementations.local import LocalFileSystem

from flywheel.errors import FlywheelError, SettingsError, UnknownIdError
from flywheel.records import content_id

_DRAFT_FLAGS = os.O_WRONLY | os.O_CREAT | os.O_EXCL


class Blobs:
    """A store of bytes by SHA-256.

    blobs = Blobs.open("s3://bucket/flywheel")    # or a folder
    digest = blobs.put(b"...")
    blobs.get(digest)
    """

    def __init__(self, filesystem: fsspec.AbstractFileSystem, root: str) -> None:
        self._filesystem = filesystem
        self._root = root
        self._local = isinstance(filesystem, LocalFileSystem)

    @classmethod
    def open(cls, url: str) -> Blobs:
        """The store at a folder or fsspec URL.

        Raises:
            SettingsError: no file system of that name, or a place that cannot be written.
        """
        try:
            filesystem, root = url_to_fs(url)
            filesystem.makedirs(root, exist_ok=True)
        except (ImportError, ValueError, OSError) as error:
            raise SettingsError(
                f"storage.blobs = {url!r} cannot be opened: {error}; "
                "choose a folder that you may write, or an fsspec URL such as s3://bucket/prefix"
            ) from error
        return cls(filesystem, root)

    def put(self, data: bytes) -> str:
        """Store bytes durably; their SHA-256."""
        (digest,) = self.put_all([data])
        return digest

    def put_all(self, blobs: Iterable[bytes]) -> list[str]:
        """Store many at once: on a disk they share the wait for their folders."""
        digests, folders = [], set()
        for data in blobs:
            digest = content_id(data)
            digests.append(digest)
            path = self._path(digest)
            if self._local:
                folders.update(_write_durably(Path(path), data))
            elif not self._filesystem.exists(path):
                self._filesystem.pipe_file(path, data)
        for folder in folders:
            _sync_folder(folder)
        return digests

    def put_soon(self, data: bytes) -> str:
        """Store bytes where readers find them at once; their SHA-256.

        On a disk they survive a power cut only after `settle`: until then the caller keeps
        them elsewhere, and puts them again after a crash. What a crash left is written anew.
        """
        if not self._local:
            return self.put(data)
        digest = content_id(data)
        path = Path(self._path(digest))
        if not (path.exists() and path.read_bytes() == data):
            _write_quickly(path, data)
        return digest

    def settle(self) -> None:
        """Make all that `put_soon` stored durable, in one wait."""
        if self._local:
            os.sync()  # Linux waits until all is written; one by one takes a wait for each

    @property
    def is_local(self) -> bool:
        """Whether the blobs are files of this machine."""
        return self._local

    def get(self, digest: str) -> bytes:
        """The bytes of a digest.

        Raises:
            UnknownIdError: there is no such blob.
            FlywheelError: what is there has another hash.
        """
        path = self._path(digest)
        try:
            data: bytes = self._filesystem.cat_file(path)
        except FileNotFoundError as error:
            raise UnknownIdError(
                f"no blob {digest} in {self._root}; was the folder moved or emptied?"
            ) from error
        if content_id(data) != digest:
            raise FlywheelError(
                f"{path} holds {content_id(data)}, not its name; restore the file from a back-up"
            )
        return data

    def __contains__(self, digest: str) -> bool:
        return bool(self._filesystem.exists(self._path(digest)))

    def _path(self, digest: str) -> str:
        return f"{self._root}/{digest[:2]}/{digest}"


def _write_durably(path: Path, data: bytes) -> list[Path]:
    """Write a file so that a power cut leaves all of it or nothing; folders with new names."""
    if path.exists():
        return []
    folders = [path.parent] if path.parent.exists() else [path.parent, path.parent.parent]
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.{uuid4().hex}")
    try:
        with draft.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)  # a full disk must not fill up with drafts
    return folders


def _write_quickly(path: Path, data: bytes) -> None:
    """Write a file in as few system calls as can be: threads that wait for each cost the most."""
    draft = f"{path.parent}/.{path.name}.{uuid4().hex}"
    try:
        file = os.open(draft, _DRAFT_FLAGS, 0o666)
    except FileNotFoundError:
        path.parent.mkdir(parents=True, exist_ok=True)
        file = os.open(draft, _DRAFT_FLAGS, 0o666)
    try:
        rest = memoryview(data)
        while rest:
            rest = rest[os.write(file, rest) :]
    finally:
        os.close(file)
    Path(draft).replace(path)


def _sync_folder(folder: Path) -> None:
    """Make the names in a folder durable, as fsync alone does only for the contents."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
