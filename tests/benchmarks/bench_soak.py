"""Load for half an hour, kill -9 and swaps: what was acknowledged is there once, and memory is flat.

Run it from the repository: `python tests/benchmarks/bench_soak.py [minutes]`; two minutes by default, as
`make bench` runs it. In the first half the server dies every 25 seconds and is started again, in the second it
lives, and what it holds is looked at. Callers never pause for either; a model is swapped every ten seconds.
"""

# It prints for people.
# ruff: noqa: T201

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import psutil
import torch
from sqlalchemy import insert, select

from flywheel.blobs import Blobs
from flywheel.errors import FlywheelError
from flywheel.ledger import Ledger
from flywheel.ledger.segments import log_folder, take_in
from flywheel.ledger.serving_tables import checkpoints, releases
from flywheel.ledger.tables import feedback, predictions
from flywheel.model import weights_of
from flywheel.project import Project, load_project
from flywheel.serve import ModelServer, command_token
from flywheel.task import load_task

TOY = Path(__file__).parents[1] / "toys" / "pair_task.py"
CALLERS = 8
PAUSE_SECONDS = 0.02
KILL_SECONDS, SWAP_SECONDS, LOOK_SECONDS = 25.0, 10.0, 15.0
BIASES = (0.0, 1_000.0)
"""of the two models: an answer says which one gave it"""


class Callers:
    """Asks from several threads, and knows what was acknowledged."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.answers: dict[str, tuple[float, float, str]] = {}
        """request id -> value sent, answer, digest"""
        self.outcomes: set[str] = set()
        """request ids whose feedback was acknowledged"""
        self.cut, self.refused = 0, 0
        """requests that a kill cut off, and that were answered with an error"""
        self._is_over = threading.Event()
        self._threads = [threading.Thread(target=self._ask, args=(k,)) for k in range(CALLERS)]
        for thread in self._threads:
            thread.start()

    def end(self) -> None:
        """Wait for what is under way."""
        self._is_over.set()
        for thread in self._threads:
            thread.join()

    def _ask(self, caller: int) -> None:
        number = 0
        with httpx.Client(base_url=self.url, timeout=60) as client:
            while not self._is_over.wait(PAUSE_SECONDS):
                number += 1
                with contextlib.suppress(httpx.TransportError):
                    self._once(client, 20.0 + (number * CALLERS + caller) % 500, number)
                    continue
                self.cut += 1

    def _once(self, client: httpx.Client, value: float, number: int) -> None:
        body = struct.pack("<2f", value, 0.9)
        asked = client.post(
            "/predict", content=body, headers={"Content-Type": "application/x-pair"}
        )
        if not asked.is_success:
            self.refused += 1
            return
        said = asked.json()
        self.answers[said["request_id"]] = (value, said["answer"], said["model_digest"])
        if number % 10 == 0:
            row = {"request_id": said["request_id"], "kind": "outcome", "value": True}
            if client.post("/feedback", json=row).is_success:
                self.outcomes.add(said["request_id"])
            else:
                self.refused += 1


def main() -> None:
    """Load the server, then compare what was acknowledged with what is stored."""
    minutes = float(sys.argv[1]) if len(sys.argv) > 1 else 2.0
    with tempfile.TemporaryDirectory() as folder:
        project, digests = _project(Path(folder))
        server = _start(project)
        callers = Callers(project.server_url)
        began, kills, swaps, held = time.monotonic(), 0, 0, list[tuple[float, int]]()
        while (passed := time.monotonic() - began) < 60 * minutes:
            if passed < 30 * minutes and passed // KILL_SECONDS >= kills + 1:
                server.send_signal(signal.SIGKILL)
                server.wait()
                server, kills = _start(project), kills + 1
            elif passed // SWAP_SECONDS > swaps:
                swaps = int(passed // SWAP_SECONDS)
                token = command_token(project)
                ModelServer(project.server_url, token).activate(digests[swaps % 2])
            if passed >= 30 * minutes and len(held) <= (passed - 30 * minutes) // LOOK_SECONDS:
                held.append((passed, psutil.Process(server.pid).memory_info().rss))
            time.sleep(0.2)
        callers.end()
        server.terminate()
        server.wait()
        print(
            f"{minutes:g} min: {len(callers.answers):,} predictions and {len(callers.outcomes):,} outcomes "
            f"acknowledged, {kills} kills, {swaps} swaps; {callers.cut} requests cut off by a kill, "
            f"{callers.refused} refused"
        )
        _compare(project, digests, callers)
        for passed, size in held[:: max(len(held) // 8, 1)]:
            print(f"after {passed / 60:5.1f} min the server holds {size / 1e6:.1f} MB")


def _project(folder: Path) -> tuple[Project, list[str]]:
    """A project with two models that answer differently; the first is released."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    shutil.copy(TOY, folder)
    text = f'[project]\nname = "soak"\ntask = "pair_task:task"\n[serve]\nport = {port}\n'
    (folder / "flywheel.toml").write_text(f"{text}[train]\ndevice = 'cpu'\n")
    project, now, digests = load_project(folder), datetime.now(UTC), list[str]()
    network = load_task("pair_task:task", folder).network()
    with closing(Ledger.open(project.ledger_url)) as ledger, ledger.begin() as connection:
        for bias in BIASES:
            torch.nn.init.constant_(next(network.parameters()), bias)
            digests.append(Blobs.open(project.blobs_url).put(weights_of(network)))
            row: dict[str, Any] = {"digest": digests[-1], "record": {}, "created_at": now}
            connection.execute(insert(checkpoints), row)
        row = {"number": 1, "checkpoint_digest": digests[0], "reason": "soak", "created_at": now}
        connection.execute(insert(releases), row)
    return project, digests


def _start(project: Project) -> subprocess.Popen[bytes]:
    """The real server; on return it answers."""
    process = subprocess.Popen(
        [sys.executable, "-m", "flywheel", "serve", str(project.directory)],
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        stdout=subprocess.DEVNULL,
    )
    while process.poll() is None:
        with contextlib.suppress(FlywheelError):
            if ModelServer(project.server_url).digest():
                return process
        time.sleep(0.1)
    raise SystemExit("the server ended by itself; its message is above")


def _compare(project: Project, digests: list[str], callers: Callers) -> None:
    with closing(Ledger.open(project.ledger_url)) as ledger:
        take_in(ledger, log_folder(project))
        with ledger.read() as connection:
            columns = (predictions.c.id, predictions.c.answer, predictions.c.model_digest)
            stored = {
                row.id: (row.answer, row.model_digest)
                for row in connection.execute(select(*columns))
            }
            known = set(connection.execute(select(feedback.c.prediction_id)).scalars())
    lost = callers.answers.keys() - stored.keys()
    other = sum(
        stored[key] != (answer, digest)
        for key, (_, answer, digest) in callers.answers.items()
        if key in stored
    )
    bias = dict(zip(digests, BIASES, strict=True))
    mixed = sum(
        answer != value + bias[digest] for value, answer, digest in callers.answers.values()
    )
    found = {
        "predictions lost": len(lost),
        "stored otherwise than answered": other,
        "answered by another model than said": mixed,
        "outcomes lost": len(callers.outcomes - known),
        "stored, and cut off before the caller knew": len(stored.keys() - callers.answers.keys()),
    }
    print(json.dumps(found))


if __name__ == "__main__":
    main()
