"""Model servers of projects, in processes that begin as copies of one that has imported all they need.

They run what `flywheel serve` runs. That it starts as a program of its own is shown where a stack starts it.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from flywheel.cli import main
from flywheel.errors import FlywheelError
from flywheel.project import load_project
from flywheel.serve import ModelServer

_PROCESSES = multiprocessing.get_context("forkserver")
_PROCESSES.set_forkserver_preload(["flywheel.cli.app", "flywheel.report.site", "flywheel.serve"])


def start_server(folder: Path) -> multiprocessing.Process:
    """Start the model server of a project, and return when it answers."""
    process = _PROCESSES.Process(target=_serve, args=(str(folder), dict(os.environ)), daemon=True)
    process.start()
    server = ModelServer(load_project(folder).server_url)
    deadline = time.monotonic() + 120
    while True:
        with contextlib.suppress(FlywheelError):
            server.digest()
            return process
        assert process.is_alive(), "the model server ended by itself"
        assert time.monotonic() < deadline, "the model server does not answer"
        time.sleep(0.1)


def stop_server(process: multiprocessing.Process) -> None:
    """Kill it."""
    process.kill()
    process.join()


@contextlib.contextmanager
def serving(folder: Path) -> Iterator[None]:
    """The model server answers."""
    process = start_server(folder)
    try:
        yield
    finally:
        stop_server(process)


def _serve(folder: str, environment: dict[str, str]) -> None:
    os.environ.clear()
    os.environ.update(environment)
    sys.argv = ["flywheel", "serve", folder]
    main()
