"""Keeps payloads durably at the price of one wait for the disk for all that come together.

A small payload goes to its place among the blobs at once, where every reader finds it, but
without waiting for the disk; what makes it durable is a journal. Once the disk has caught up
with the blobs the journal is dropped; after a crash it is put back into the blobs.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from uuid import uuid4

from flywheel.blobs import Blobs
from flywheel.errors import UnavailableError
from flywheel.serve.journal import Journal, read_journal

_LOGGER = logging.getLogger(__name__)
_SMALL_BYTES = 262_144  # above, writing twice costs more than waiting once more
_JOURNAL_BYTES = 33_554_432
_PATTERN = "*.journal"


class Payloads:
    """Payloads on their way into the blobs; `folder` is for its journals.

    What an earlier process left there is put into the blobs first.
    """

    def __init__(self, blobs: Blobs, folder: Path) -> None:
        self._blobs = blobs
        self._folder = folder
        self._journal: Journal | None = None
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="payloads")
        self._recover()

    def keep(self, payloads: Sequence[bytes]) -> None:
        """Return when payloads are where readers find them and would survive a power cut.

        One caller at a time.

        Raises:
            UnavailableError: the disk or the store failed.
        """
        small = [payload for payload in payloads if self._is_journaled(payload)]
        large = [payload for payload in payloads if not self._is_journaled(payload)]
        try:
            self._blobs.put_all(large)
            for payload in small:
                self._blobs.put_soon(payload)
            if small:
                self._open_journal().append(small)
        except OSError as error:
            self._end_journal()
            raise UnavailableError(
                f"the payload cannot be stored: {error}; "
                "free the disk or mend the folder of storage.blobs, then send this again"
            ) from error
        if self._journal is not None and self._journal.num_bytes >= _JOURNAL_BYTES:
            self._end_journal()

    def close(self) -> None:
        """Make all blobs durable, which leaves no journal behind."""
        self._end_journal()
        self._pool.shutdown()

    def _is_journaled(self, payload: bytes) -> bool:
        return self._blobs.is_local and len(payload) < _SMALL_BYTES

    def _open_journal(self) -> Journal:
        if self._journal is not None and not self._journal.is_there:
            self._journal.close()
            self._journal = None
        if self._journal is None:
            self._journal = Journal(self._folder / f"{uuid4().hex}.journal")
        return self._journal

    def _end_journal(self) -> None:
        if self._journal is None:
            return
        self._journal.close()
        self._pool.submit(self._settle, self._journal.path).add_done_callback(_note_failure)
        self._journal = None

    def _settle(self, path: Path) -> None:
        self._blobs.settle()
        path.unlink(missing_ok=True)

    def _recover(self) -> None:
        for path in sorted(self._folder.glob(_PATTERN)):
            for payload in read_journal(path):
                self._blobs.put_soon(payload)
            self._settle(path)


def _note_failure(done: Future[None]) -> None:
    error = done.exception()
    if error is not None:
        _LOGGER.error("a journal could not be dropped; the next start does it", exc_info=error)
