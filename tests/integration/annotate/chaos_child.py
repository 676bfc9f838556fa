"""Sends, pulls, reconciliations and orders the queue in processes that die at their n-th step; a program.

Reads a JSON list of orders a line, and forks a process for each at once, since importing takes
longer than a send. Prints a JSON list of how each one ended: its exit code, and what it came to
or which error it raised. A step is an HTTP request, before and after, or a commit, before and
after; at the step `die_at` the process ends by SIGKILL.
"""

from __future__ import annotations

import importlib
import json
import os
import signal
import sys
import threading
import traceback
from collections.abc import Callable
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path

import httpx
from chaos_letters import open_letters
from sqlalchemy import Connection, event

from flywheel.annotate import LabelStudioBackend, Sender, order_queue, pull, reconcile, send
from flywheel.errors import BusyError, FlywheelError
from flywheel.ledger import Ledger

LATE = ("label_studio_sdk.base_client", "label_studio_sdk.label_interface.interface")
"""what a process imports while it runs, in seconds"""
DONE, CRASHED, REPORTED, BUSY = 0, 1, 2, 3
"""how a process ends by itself"""


class Steps:
    """Counts steps, and ends the process at one of them."""

    def __init__(self, die_at: int | None) -> None:
        self.die_at = die_at
        self.number = 0
        self._lock = threading.Lock()
        self._commits = False

    def step(self) -> None:
        with self._lock:  # pictures go up in several threads
            if self.number == self.die_at:
                os.kill(os.getpid(), signal.SIGKILL)
            self.number += 1

    def watch(self, ledger: Ledger) -> None:
        """Count the commits of all that writes."""
        dialect = ledger.engine.dialect
        do_commit = dialect.do_commit

        @event.listens_for(ledger.engine, "commit")
        def _before(connection: Connection) -> None:
            self._commits = not connection.get_execution_options().get("flywheel_read_only", False)
            if self._commits:
                self.step()

        def commit(connection: object) -> None:
            do_commit(connection)
            if self._commits:
                self.step()

        dialect.do_commit = commit


class Network(httpx.BaseTransport):
    """The real one, counted."""

    def __init__(self, steps: Steps) -> None:
        self.steps = steps
        limits = httpx.Limits(max_keepalive_connections=0)
        self.real = httpx.HTTPTransport(verify=False, limits=limits)

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        self.steps.step()
        response = self.real.handle_request(request)
        response.read()
        self.steps.step()
        return response

    def close(self) -> None:
        self.real.close()


def _send(letters, studio, order, now):
    sender = Sender(
        ledger=letters.ledger,
        blobs=letters.blobs,
        studio=studio,
        task=letters.task,
        project=letters.project,
    )
    return send(sender, now)


def _pull(letters, studio, order, now):
    return pull(letters.ledger, letters.blobs, studio, letters.task, now)


def _reconcile(letters, studio, order, now):
    return reconcile(letters.ledger, letters.blobs, studio, letters.task, now)


def _queue(letters, studio, order, now):
    return order_queue(letters.ledger, studio, order["hardness"], 7.0, now)


ACTIONS: dict[str, Callable] = {
    "send": _send,
    "pull": _pull,
    "reconcile": _reconcile,
    "queue": _queue,
}


def _live(order: dict) -> tuple[int, object]:
    """The life of a forked process, as far as it comes."""
    steps = Steps(order.get("die_at"))
    letters = open_letters(Path(order["directory"]))
    steps.watch(letters.ledger)
    try:
        studio = LabelStudioBackend.connect(
            order["url"], order["token"], transport=Network(steps), sleep=lambda _: None
        )
        result = ACTIONS[order["action"]](letters, studio, order, datetime.now(UTC))
    except BusyError as error:
        return BUSY, str(error)
    except FlywheelError as error:
        return REPORTED, f"{type(error).__name__}: {error}"
    return DONE, asdict(result) | {"steps": steps.number}


def _fork(order: dict) -> tuple[int, int]:
    """Start a process; its number, and where its result can be read."""
    reader, writer = os.pipe()
    child = os.fork()
    if child:
        os.close(writer)
        return child, reader
    code = CRASHED
    try:
        code, report = _live(order)
        os.write(writer, json.dumps(report).encode())
    except BaseException:  # noqa: BLE001 - the boundary of a process
        traceback.print_exc()
        sys.stderr.flush()
    os._exit(code)


def main() -> None:
    """Fork for each order of a line, and wait for all of them."""
    Network(Steps(None)).close()  # what it imports late is imported once
    for name in LATE:
        importlib.import_module(name)
    for line in sys.stdin:
        ended = []
        for child, reader in [_fork(order) for order in json.loads(line)]:
            with os.fdopen(reader, "rb") as pipe:
                report = pipe.read()
            status = os.waitpid(child, 0)[1]
            code = os.waitstatus_to_exitcode(status)
            ended.append([code, json.loads(report) if report else None])
        sys.stdout.write(json.dumps(ended) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
