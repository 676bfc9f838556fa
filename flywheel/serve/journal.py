"""One file into which payloads go one after the other, so that many share one wait for the disk.

A file that was cut short by a crash is read up to where it is whole. What the payloads are
kept for is not known here.
"""

from __future__ import annotations

import hashlib
import os
import struct
from collections.abc import Iterator, Sequence
from pathlib import Path

_HEAD = struct.Struct("<32sQ")  # SHA-256 and length of what follows


class Journal:
    """A new journal file, open for appending."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self.path = path
        self.num_bytes = 0
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND, 0o644)
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)  # the name, too, must survive
        finally:
            os.close(folder)

    def append(self, payloads: Sequence[bytes]) -> None:
        """Return when all of them would survive a power cut.

        Raises:
            OSError: the disk failed; the file ends in a torso, so begin another one.
        """
        frames = b"".join(_frame(payload) for payload in payloads)
        rest = memoryview(frames)
        while rest:
            rest = rest[os.write(self._file, rest) :]
        os.fsync(self._file)
        self.num_bytes += len(frames)

    @property
    def is_there(self) -> bool:
        """Whether the file still has a name; what is written to one without is lost."""
        return os.fstat(self._file).st_nlink > 0

    def close(self) -> None:
        """Write no more."""
        os.close(self._file)


def read_journal(path: Path) -> Iterator[bytes]:
    """The payloads of a journal, up to its end or the first that is not whole."""
    with path.open("rb") as file:
        while len(head := file.read(_HEAD.size)) == _HEAD.size:
            digest, length = _HEAD.unpack(head)
            if length > path.stat().st_size:
                return
            payload = file.read(length)
            if hashlib.sha256(payload).digest() != digest:
                return
            yield payload


def _frame(payload: bytes) -> bytes:
    return _HEAD.pack(hashlib.sha256(payload).digest(), len(payload)) + payload
