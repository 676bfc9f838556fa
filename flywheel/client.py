"""Logs predictions and feedback of a server of one's own to flywheel, without making its callers wait.

    from flywheel.client import Client

    client = Client("http://127.0.0.1:8700", "spool")
    client.log("request 7", answer="cat", payload=picture, media_type="image/png", confidence=0.9)
    client.feedback("request 7", "outcome", False)

A row is appended to a file of the spool, and a thread sends the files: a flywheel that is down loses
nothing, nor does a kill of this process, whose files the next one sends. Neither torch nor Prefect is
imported, and no call raises because of flywheel, its disk or the network.
"""

from __future__ import annotations

import atexit
import base64
import fcntl
import gzip
import http.client
import json
import logging
import os
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from flywheel.web import is_loopback

_LOGGER = logging.getLogger(__name__)
_KINDS = ("predictions", "feedback")
_FILE_BYTES = 16_000_000
_BODY_ROWS, _BODY_BYTES = 1_000, 4_000_000
_TIMEOUT_SECONDS = 30.0
_LONGEST_WAIT = 60.0
_REJECTS = "rejects.jsonl"


class Client:
    """Appends rows to a spool, and sends them in the background; safe in threads and after a fork.

    Args:
        url: of flywheel's server.
        spool: a folder, which the processes of a server may share.
        token: FLYWHEEL_SERVER_TOKEN of that server, where it has one.
        every_seconds: how long a row waits for others at most, while flywheel answers.
        most_bytes: of the spool; rows beyond are dropped and counted.
    """

    def __init__(
        self,
        url: str,
        spool: Path | str,
        *,
        token: str | None = None,
        every_seconds: float = 1.0,
        most_bytes: int = 10_000_000_000,
    ) -> None:
        self.num_dropped = 0
        """rows that could not be written to the spool, or not as JSON"""
        self._url, self._spool, self._token = url.rstrip("/"), Path(spool), token
        self._every, self._most = every_seconds, most_bytes
        self._lock, self._number = threading.Lock(), 0
        self._begin()
        atexit.register(self.close)

    def log(
        self,
        id: str,  # noqa: A002  the name of the field
        *,
        answer: Any,
        payload: bytes | str | Mapping[str, Any] | Sequence[Any] | None = None,
        path: str | None = None,
        url: str | None = None,
        media_type: str | None = None,
        confidence: float | None = None,
        embedding: Sequence[float] | None = None,
        model: str | None = None,
        latency_ms: float | None = None,
        metadata: Mapping[str, Any] | None = None,
        time: datetime | None = None,
    ) -> None:
        """Log a prediction: its request id, its answer, and its payload or where that is.

        Args:
            id: of the request; the same one again changes nothing.
            answer: JSON, as the task's answers are.
            payload: bytes, a text, or JSON.
            path: of a file in place of the payload, below `[serve] payload_roots`.
            url: of an address in place of the payload, likewise.
            media_type: of the payload; by default it is found out.
            confidence: 0..1; None: flywheel computes it, if it can.
            embedding: where the payload lies among the others; None, likewise.
            model: digest of a release, or a name.
            latency_ms: of the answer.
            metadata: what else is known: scene, session, device.
            time: with its zone; by default now.
        """
        row = {
            "id": id,
            "time": (time or datetime.now(UTC)).isoformat(),
            "answer": answer,
            "path": path,
            "url": url,
            "media_type": media_type,
            "confidence": confidence,
            "embedding": embedding if embedding is None else [float(one) for one in embedding],
            "model": model,
            "latency_ms": latency_ms,
            "metadata": metadata,
        }
        if isinstance(payload, bytes | bytearray | memoryview):
            row["base64"] = base64.b64encode(payload).decode()
        else:
            row["input"] = payload
        self._write("predictions", row)

    def feedback(
        self,
        id: str,  # noqa: A002  the name of the field
        kind: str,
        value: Any,
        *,
        source: str | None = None,
        time: datetime | None = None,
    ) -> None:
        """Log what became of an answer: `outcome`, `correction` or `rating`, by its request id."""
        at = (time or datetime.now(UTC)).isoformat()
        row = {"id": id, "kind": kind, "value": value, "source": source, "time": at}
        self._write("feedback", row)

    def close(self, seconds: float = 5.0) -> None:
        """Send what is left, for so long at most; the rest stays in the spool."""
        if os.getpid() != self._pid or not self._thread.is_alive():
            return
        self._ended.set()
        self._wake.set()
        self._thread.join(seconds)
        with self._lock:
            _close(self._detach())

    def _begin(self) -> None:
        """Begin in this process, which may be a fork of the one that made the client."""
        self._pid = os.getpid()
        self._file: int | None = None
        self._size = self._spooled = 0
        self._ended, self._wake = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._run, name="flywheel-client", daemon=True)
        try:
            self._spool.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._spooled = sum(path.stat().st_size for path in self._spool.glob("*.rows"))
        except OSError as error:
            _LOGGER.warning("the spool %s cannot be used, rows are dropped: %s", self._spool, error)
        self._thread.start()

    def _write(self, kind: str, row: dict[str, Any]) -> None:
        try:
            given = {key: value for key, value in row.items() if value is not None}
            line = json.dumps({kind: given}, allow_nan=False).encode() + b"\n"
        except (TypeError, ValueError) as error:
            self._drop(f"row {row['id']!r} is no JSON: {error}")
            return
        if os.getpid() != self._pid:
            self._lock = threading.Lock()  # that of the parent may be held for ever
            self._begin()
        with self._lock:
            if self._spooled + len(line) > self._most:
                self._drop(f"the spool {self._spool} holds {self._most:,} bytes")
                return
            try:
                self._append(line)
            except OSError as error:
                _close(self._detach())
                self._drop(f"the spool {self._spool} cannot be written: {error}")
                return
            self._size += len(line)
            self._spooled += len(line)
            if self._size >= _FILE_BYTES:
                _close(self._detach())

    def _append(self, line: bytes) -> None:
        """Write a line in one call: a kill leaves all of it or nothing, and the system has it then."""
        file = self._file if self._file is not None else self._open()
        if os.write(file, line) < len(line):
            raise OSError("the disk is full")

    def _drop(self, why: str) -> None:
        self.num_dropped += 1
        if self.num_dropped & (self.num_dropped - 1) == 0:  # 1, 2, 4, 8, ... are said
            _LOGGER.error("%s; %d rows are dropped", why, self.num_dropped)

    def _open(self) -> int:
        """A new file of this process, which it holds as long as it writes there."""
        self._number += 1
        name = f"{time.time_ns():020d}-{self._pid}-{self._number}.rows"
        self._file = os.open(self._spool / name, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        fcntl.flock(self._file, fcntl.LOCK_EX)
        return self._file

    def _detach(self) -> int | None:
        """The file that was written to, which may be sent once it is closed."""
        file, self._file, self._size = self._file, None, 0
        return file

    def _run(self) -> None:
        wait = self._every
        while True:
            self._wake.wait(wait)
            is_last = self._ended.is_set()
            with self._lock:
                file = self._detach()
            _close(file, is_durable=True)  # not in the lock, since callers would wait for the disk
            try:
                self._send_all()
                wait = self._every
            except (OSError, http.client.HTTPException) as error:
                wait = min(max(2 * wait, 1.0), _LONGEST_WAIT)
                _LOGGER.warning("flywheel at %s takes no rows (%s); they wait", self._url, error)
            if is_last:
                return

    def _send_all(self) -> None:
        """Send each file that no process writes to, the oldest first."""
        for path in sorted(self._spool.glob("*.rows")):
            with suppress(BlockingIOError, FileNotFoundError), path.open("rb") as file:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if not path.exists():
                    continue  # another process has just sent it
                data = file.read()
                for kind, rows in _bodies(data):
                    self._send(kind, rows)
                path.unlink()
                self._spooled = max(0, self._spooled - len(data))

    def _send(self, kind: str, rows: list[bytes]) -> None:
        """Send rows, in halves where they are too many at once.

        Raises:
            OSError: they are not taken now.
        """
        status, said = self._post(kind, b"\n".join(rows))
        if status == 413 and len(rows) > 1:
            self._send(kind, rows[: len(rows) // 2])
            self._send(kind, rows[len(rows) // 2 :])
        elif status in {200, 422} and isinstance(said, dict) and "num_rejected" in said:
            for one in said.get("rejected", []):
                place = int(one["row"]) - 1
                if place < len(rows):
                    self._reject(kind, rows[place], str(one["reason"]))
        elif status == 413:
            self._reject(kind, rows[0], "it is larger than flywheel takes")
        else:
            raise OSError(f"it answered {status}: {str(said)[:200]}")

    def _post(self, kind: str, body: bytes) -> tuple[int, Any]:
        headers = {"Content-Type": "application/jsonl", "Content-Encoding": "gzip"}
        if self._token:
            headers["Authorization"] = f"Bearer {self._token}"
        packed = gzip.compress(body, compresslevel=1)
        request = urllib.request.Request(  # noqa: S310  the address is the caller's own
            f"{self._url}/{kind}", packed, headers, method="POST"
        )
        direct = [urllib.request.ProxyHandler({})] if is_loopback(self._url) else []
        opener = urllib.request.build_opener(*direct)
        try:
            with opener.open(request, timeout=_TIMEOUT_SECONDS) as answer:
                return answer.status, _read(answer.read())
        except urllib.error.HTTPError as error:
            with error:
                return error.code, _read(error.read())
        except ValueError as error:
            raise OSError(f"{self._url} is no address: {error}") from error

    def _reject(self, kind: str, row: bytes, reason: str) -> None:
        _LOGGER.error("flywheel cannot use a row of %s: %s", kind, reason)
        line = json.dumps({"kind": kind, "reason": reason, "row": row.decode(errors="replace")})
        with (self._spool / _REJECTS).open("a", encoding="utf-8") as file:
            file.write(f"{line}\n")


def _close(file: int | None, *, is_durable: bool = False) -> None:
    if file is None:
        return
    with suppress(OSError):
        if is_durable:
            os.fsync(file)
        os.close(file)


def _bodies(data: bytes) -> Iterator[tuple[str, list[bytes]]]:
    """The rows of a file in bodies of one kind; predictions come before feedback on them."""
    found: dict[str, list[bytes]] = {kind: [] for kind in _KINDS}
    for line in data.split(b"\n"):
        with suppress(ValueError, KeyError):  # cut by a full disk, or by a power cut
            ((kind, row),) = json.loads(line).items()
            found[kind].append(json.dumps(row).encode())
    for kind, rows in found.items():
        body: list[bytes] = []
        size = 0
        for row in rows:
            if body and (len(body) >= _BODY_ROWS or size + len(row) > _BODY_BYTES):
                yield kind, body
                body, size = [], 0
            body.append(row)
            size += len(row)
        if body:
            yield kind, body


def _read(answer: bytes) -> Any:
    try:
        return json.loads(answer)
    except ValueError:
        return answer[:200].decode(errors="replace")
