"""Runs the model server of a project in this process, until a signal ends it."""

from __future__ import annotations

import errno
import os
import socket
from contextlib import closing

import torch
import uvicorn

from flywheel.blobs import Blobs
from flywheel.errors import BusyError, SettingsError
from flywheel.ledger import Ledger
from flywheel.logs import write_logs
from flywheel.project import Project
from flywheel.serve.app import create_app
from flywheel.serve.notify import Listeners
from flywheel.task import load_task

_NOBODY = Listeners()
_BACKLOG = 2048


def run(project: Project, *, listeners: Listeners = _NOBODY) -> None:
    """Serve until SIGTERM or SIGINT; requests that are inside by then still get their answer.

    Raises:
        BusyError: the port is taken.
        SettingsError: the host is no address of this machine, or the token is missing.
    """
    if "OMP_NUM_THREADS" not in os.environ:
        # A forward pass of a few samples gains nothing from a second core, and takes it from
        # the threads that decode and store; who has a large model on a CPU sets the variable.
        torch.set_num_threads(1)
    task = load_task(project.project.task, project.directory)
    with (
        _listen(project.serve.host, project.serve.port) as listener,
        closing(Ledger.open(project.ledger_url)) as ledger,
    ):
        blobs = Blobs.open(project.blobs_url)
        app = create_app(project, task, ledger, blobs, listeners=listeners)
        config = uvicorn.Config(app, access_log=False, log_level="warning")
        server = uvicorn.Server(config)
        write_logs(project.name)  # after uvicorn has made its handlers
        server.run(sockets=[listener])


def _listen(host: str, port: int) -> socket.socket:
    """A socket of our own, since uvicorn would end the process when the port is taken."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=_BACKLOG)
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise BusyError(
                f"port {port} of {host} is taken; end what holds it (flywheel down, if it is "
                "this project's server) or write another serve.port"
            ) from error
        raise SettingsError(
            f"serve.host = {host!r}, serve.port = {port} cannot be listened on: "
            f"{error.strerror}; write an address of this machine and a free port above 1023"
        ) from error
