"""Keeps predictions and feedback durably before they are acknowledged.

All that wait at the same moment share one transaction, and with it the wait for the disk.
A disk that fails makes callers send again; nothing here has to be restarted when it is back.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from sqlalchemy import Connection
from sqlalchemy.exc import SQLAlchemyError

from flywheel.blobs import Blobs
from flywheel.errors import FlywheelError, UnavailableError
from flywheel.ledger import Ledger
from flywheel.ledger.nights import add_skip
from flywheel.ledger.payloads import is_small
from flywheel.ledger.predictions import Logged, append_predictions
from flywheel.serve.answers import Answered
from flywheel.serve.grouped import Grouped

_MOST_GROUPS = 64


class PredictionLog:
    """Writes predictions; `place` gives a sample's group and split."""

    def __init__(self, ledger: Ledger, blobs: Blobs, place: Callable[[Answered], Logged]) -> None:
        self._ledger, self._blobs = ledger, blobs
        self._place = place
        self._commit = Grouped[Sequence[Answered], None](
            self._commit_groups, fault=_fault, most=_MOST_GROUPS
        )

    def write(self, batch: Sequence[Answered]) -> None:
        """Return when payloads and rows of a batch would survive a power cut.

        Raises:
            UnavailableError: they could not be stored.
        """
        self._commit(batch)

    def _commit_groups(self, batches: list[Sequence[Answered]]) -> list[None]:
        batch = [answered for group in batches for answered in group]
        self._store_large([answered.sample.payload for answered in batch])
        with durably(self._ledger) as connection:
            append_predictions(connection, [self._place(answered) for answered in batch])
            for answered in batch:
                if answered.fault is not None:
                    prediction = answered.prediction
                    subject = f"prediction {prediction.id}"
                    add_skip(connection, subject, answered.fault, None, prediction.created_at)
        return [None] * len(batches)

    def _store_large(self, payloads: Sequence[bytes]) -> None:
        """Put what is too large for the ledger into the blobs, before the rows that name it."""
        try:
            self._blobs.put_all(payload for payload in payloads if not is_small(payload))
        except OSError as error:
            raise UnavailableError(
                f"the payload cannot be stored: {error}; "
                "free the disk or mend the folder of storage.blobs, then send this again"
            ) from error


@contextmanager
def durably(ledger: Ledger) -> Iterator[Connection]:
    """A transaction on the ledger whose failure is one that the caller can wait out.

    Raises:
        UnavailableError: the ledger's disk or server failed.
    """
    try:
        _must_be_there(ledger)
        with ledger.begin() as connection:
            yield connection
    except (UnavailableError, SQLAlchemyError, OSError) as error:
        ledger.close()  # the next transaction opens the file or the connection anew
        cause = error.__cause__ or error
        reason = getattr(cause, "orig", None) or cause
        raise UnavailableError(
            f"the ledger {ledger.engine.url!r} cannot be written: {reason}; "
            "nothing was stored: free the disk or mend the folder, then send this again"
        ) from error


def _must_be_there(ledger: Ledger) -> None:
    """SQLite would go on writing into a file that was deleted, and lose it all at the end."""
    url = ledger.engine.url
    if url.get_backend_name() == "sqlite" and url.database:
        Path(url.database).stat()


def _fault(error: BaseException) -> FlywheelError:
    if isinstance(error, UnavailableError):
        return UnavailableError(str(error))
    return FlywheelError(
        f"the prediction could not be stored: {error!r}; see the server's log, then send it again"
    )
