"""Payloads, pictures, manifests and weights by the hash of their content, over fsspec.

A blob never changes: its name is the hash of its content, so writing one twice is harmless and
reading one checks it. The ledger says what a blob is.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple
from uuid import uuid4

import fsspec
from fsspec.core import url_to_fs
from fsspec.implementations.local import LocalFileSystem

from flywheel.errors import DamagedError, SettingsError, UnavailableError, UnknownIdError
from flywheel.records import content_id

_FEW = 8
_BLOB = re.compile(r"[0-9a-f]{2}/[0-9a-f]{64}")
_DRAFT = re.compile(r"[0-9a-f]{2}/\.[0-9a-f]{64}\.[0-9a-f]{32}")


class Stored(NamedTuple):
    """A file of the store."""

    name: str
    """its digest; a draft has a longer one, with a dot before it"""
    size: int
    """bytes"""
    changed_at: datetime | None
    """None where the store does not report it"""


class Blobs:
    """A store of bytes by SHA-256.

    blobs = Blobs.open("s3://bucket/flywheel")    # or a folder
    digest = blobs.put(b"...")
    blobs.get(digest)

    Every method raises UnavailableError when a store elsewhere does not answer.
    """

    def __init__(self, filesystem: fsspec.AbstractFileSystem, root: str) -> None:
        self._filesystem = filesystem
        self._root = root
        self._local = isinstance(filesystem, LocalFileSystem)

    @classmethod
    def open(cls, url: str, *, creates: bool = True) -> Blobs:
        """The store at a folder or fsspec URL; without `creates`, a missing one stays missing.

        Raises:
            SettingsError: no file system of that name, or a place that cannot be written.
        """
        try:
            # Other processes write too: what a listing said a while ago is not asked.
            if "://" in url:
                filesystem, root = url_to_fs(url, use_listings_cache=False)
            else:  # in a folder's name :: chains nothing
                filesystem, root = LocalFileSystem(), str(Path(url).absolute())
            if creates:
                filesystem.makedirs(root, exist_ok=True)
            elif isinstance(filesystem, LocalFileSystem):
                _refuse_file(Path(root))
        except _network_errors() as error:
            raise _silent(url, error) from error
        except (ImportError, ValueError, OSError) as error:
            raise SettingsError(
                f"storage.blobs = {url!r} cannot be opened: {error}; "
                "choose a folder that you may write, or an fsspec URL such as s3://bucket/prefix"
            ) from error
        return cls(filesystem, root)

    def put(self, data: bytes) -> str:
        """Store bytes durably; their SHA-256."""
        return self.put_all([data])[0]

    def put_all(self, blobs: Iterable[bytes]) -> list[str]:
        """Store many at once, durably: on a disk they share the waits for it."""
        named = [(content_id(data), data) for data in blobs]
        if self._local:
            _write_durably({Path(self._path(digest)): data for digest, data in named})
        else:
            # Many at a time; one that is there is written anew, and so is young again.
            with self._answering():
                self._filesystem.pipe({self._path(digest): data for digest, data in named})
        return [digest for digest, _ in named]

    def get(self, digest: str) -> bytes:
        """The bytes of a digest.

        Raises:
            UnknownIdError: there is no such blob.
            DamagedError: what is there has another hash.
        """
        try:
            with self._answering():
                path = self._path(digest)  # fsspec takes twice as long for a file on the disk
                data = Path(path).read_bytes() if self._local else self._filesystem.cat_file(path)
        except FileNotFoundError as error:
            raise self._unknown(digest) from error
        return self._checked(digest, data)

    def get_all(self, digests: Collection[str]) -> dict[str, bytes]:
        """The bytes of many digests; an object store is asked for many at a time.

        Raises:
            UnknownIdError: there is no such blob.
            DamagedError: what is there has another hash.
        """
        if self._local or not digests:
            return {digest: self.get(digest) for digest in digests}
        paths = {digest: self._path(digest) for digest in digests}
        try:
            with self._answering():
                found = self._filesystem.cat(list(paths.values()))
        except FileNotFoundError:
            found = {}
        # What is missing is asked for by itself, so that the error names it.
        return {
            digest: self._checked(digest, found[path]) if path in found else self.get(digest)
            for digest, path in paths.items()
        }

    def __contains__(self, digest: str) -> bool:
        with self._answering():
            return bool(self._filesystem.exists(self._path(digest)))

    def stored(self) -> Iterator[Stored]:
        """Every file of the store: blobs by their digest, and drafts that a kill left behind."""
        root = self._root.rstrip("/") + "/"
        for path, info in self._filesystem.find(self._root, detail=True).items():
            name = path.removeprefix(root)
            if _BLOB.fullmatch(name) or _DRAFT.fullmatch(name):
                yield Stored(name.rpartition("/")[2], int(info["size"] or 0), _changed(info))

    def find(self, digest: str) -> Stored | None:
        """The file of one blob; None when it is missing."""
        try:
            info = self._filesystem.info(self._path(digest))
        except FileNotFoundError:
            return None
        return Stored(digest, int(info["size"] or 0), _changed(info))

    def remove(self, stored: Stored) -> bool:
        """Remove a file of the store; False when it was written anew since it was listed."""
        path = self._path(stored.name)
        if stored.name.startswith("."):
            path = f"{self._root}/{stored.name[1:3]}/{stored.name}"
        try:
            if _changed(self._filesystem.info(path)) != stored.changed_at:
                return False
            self._filesystem.rm_file(path)
        except FileNotFoundError:
            return False
        return True

    @contextmanager
    def _answering(self) -> Iterator[None]:
        """Raise UnavailableError for a store that does not answer, which may be tried again."""
        silence: tuple[type[Exception], ...] = (OSError, *_network_errors())
        try:
            yield
        except (FileNotFoundError, PermissionError):
            raise
        except silence as error:
            if self._local:
                raise
            raise _silent(self._root, error) from error

    def _checked(self, digest: str, data: bytes) -> bytes:
        if content_id(data) != digest:
            raise DamagedError(
                f"{self._path(digest)} holds {content_id(data)}, not its name; "
                "restore the file from a back-up"
            )
        return data

    def _unknown(self, digest: str) -> UnknownIdError:
        return UnknownIdError(
            f"no blob {digest} in {self._root}, which was moved or emptied. Put it back, or bring the "
            "project back with flywheel restore"
        )

    def _path(self, digest: str) -> str:
        return f"{self._root}/{digest[:2]}/{digest}"


def _network_errors() -> tuple[type[Exception], ...]:
    """What stands for a server that cannot be reached; botocore's own are no OSError."""
    boto = sys.modules.get("botocore.exceptions")
    own = () if boto is None else (boto.ConnectionError, boto.HTTPClientError)
    return (ConnectionError, TimeoutError, *own)


def _silent(where: str, error: Exception) -> UnavailableError:
    return UnavailableError(
        f"the blob store {where} does not answer: {error}; see that it runs and that this machine "
        "reaches it, then run this again"
    )


def _refuse_file(folder: Path) -> None:
    """Raise NotADirectoryError for a folder that could never be made."""
    while not folder.exists():
        folder = folder.parent
    if not folder.is_dir():
        raise NotADirectoryError(f"{folder} is a file")


def _write_durably(files: dict[Path, bytes]) -> None:
    """Write files so that a power cut leaves all of each or nothing of it."""
    new = {path: data for path, data in files.items() if not _is_kept(path)}
    folders = {path.parent for path in new}
    folders |= {folder.parent for folder in folders if not folder.exists()}
    for folder in sorted(folders):
        folder.mkdir(parents=True, exist_ok=True)
    drafts = {path: path.with_name(f".{path.name}.{uuid4().hex}") for path in new}
    try:
        for path, draft in drafts.items():
            draft.write_bytes(new[path])
        if len(drafts) > _FEW:
            os.sync()  # writes all of them in one go, and the waits below find nothing left to do
        for path, draft in drafts.items():
            sync(draft)
            draft.replace(path)
    finally:
        for draft in drafts.values():
            draft.unlink(missing_ok=True)  # a full disk must not fill up with drafts
    for folder in folders:
        sync(folder)


def _is_kept(path: Path) -> bool:
    """Whether a blob is there; its age starts anew, so that cleaning does not remove it."""
    try:
        os.utime(path)
    except FileNotFoundError:
        return False
    except PermissionError:  # another user's file, which is as good
        return path.exists()
    return True


def _changed(info: dict[str, Any]) -> datetime | None:
    """When a file was written last; file systems have different names for it."""
    for key in ("mtime", "LastModified", "last_modified", "updated", "created"):
        value = info.get(key)
        if isinstance(value, datetime):
            return value if value.tzinfo else value.replace(tzinfo=UTC)
        if isinstance(value, int | float):
            return datetime.fromtimestamp(value, UTC)
    return None


def sync(path: Path) -> None:
    """Make the contents of a file, or the names in a folder, durable."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
