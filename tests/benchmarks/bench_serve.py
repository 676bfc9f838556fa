"""What the durable log costs, and how the server compares with one that keeps nothing, over HTTP.

Run it from the repository: `python tests/benchmarks/bench_serve.py [seconds for each cell]`. Servers
and client are processes of their own; rounds go through the servers in turn, so that a busy machine
slows all alike. The ratios carry over to other machines, the rest does not: `ratio` is the median of
the rounds' ratios to the server without a log, `of bests` that of the least disturbed round of each.
PostgreSQL, whose commits wait for the disk, holds the ledger of one of ours where it is installed.
LitServe and BentoML (other model servers, same model, batch size and workers, no log) are measured
where BENCH_PEERS names a Python that has one: `python -m venv V; V/bin/pip install litserve bentoml`,
and torch beside them.
"""

# It prints for people, and its client processes must not load torch.
# ruff: noqa: T201, PLC0415

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import socket
import statistics
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from importlib import import_module
from pathlib import Path
from typing import NamedTuple

import httpx
import psutil

sys.path.insert(0, str(Path(__file__).parents[1] / "integration"))
import postgres  # of the tests

ROOT = Path(__file__).parents[2]
TOYS = ROOT / "tests" / "toys"
CONCURRENCY = (1, 16, 64)
ROUNDS = 6
MAX_BATCH = 64
NOW = datetime(2026, 1, 1, tzinfo=UTC)
PLAIN, DURABLE, POSTGRES = "no log", "durable", "PostgreSQL"
PEERS = {
    "LitServe": ("serve_litserve.py", "/health"),
    "BentoML": ("serve_bento.py", "/readyz"),
}
"""each with its program, and where it says that it is healthy"""
PEER_PYTHON = os.environ.get("BENCH_PEERS", "")


class Cell(NamedTuple):
    """What a server did in one round."""

    rate: float
    """predictions a second"""
    p50_ms: float
    p99_ms: float
    cpu: float
    """seconds of the server's processes for a thousand predictions"""


def main() -> None:
    """Measure and print the table."""
    seconds = float(sys.argv[1]) if len(sys.argv) > 1 else 5.0
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as stack:
        ledgers = {PLAIN: "", DURABLE: ""}
        if programs := postgres.find_programs():
            running = stack.enter_context(postgres.run_postgres(programs, is_durable=True))
            ledgers[POSTGRES] = postgres.new_database(running, "bench")
        names = [*ledgers, *_peers()]
        servers = {
            name: stack.enter_context(
                _server(Path(folder) / name.replace(" ", "-"), name, ledgers.get(name, ""))
            )
            for name in names
        }
        print(
            f"{'callers':>7} {'server':>10} {'/s':>7} {'p50 ms':>7} {'p99 ms':>7} "
            f"{'CPU s/1000':>10} {'RSS MB':>7} {'ratio':>6} {'of bests':>9}"
        )
        for callers in CONCURRENCY:
            cells: dict[str, list[Cell]] = {name: [] for name in names}
            for round_number in range(ROUNDS):
                for name in names if round_number % 2 else reversed(names):
                    cells[name].append(_measured(name, servers[name], callers, seconds / ROUNDS))
            for name in names:
                _print_row(callers, name, cells, servers[name][1])
            print(f"{'':>7} one wait for this disk: {_wait_ms(Path(folder)):.2f} ms")


def _peers() -> list[str]:
    """The other servers that are installed; the others are named as left out."""
    script = "import sys, importlib.util; print(*filter(importlib.util.find_spec, sys.argv[1:]))"
    found = ""
    if PEER_PYTHON:
        asked = [PEER_PYTHON, "-c", script, *map(str.lower, PEERS)]
        found = subprocess.run(asked, check=True, stdout=subprocess.PIPE, text=True).stdout
    known = [name for name in PEERS if name.lower() in found.split()]
    for name in [name for name in PEERS if name not in known]:
        print(f"{name} is left out: BENCH_PEERS names no Python that has it.")
    return known


def _print_row(
    callers: int, name: str, cells: dict[str, list[Cell]], process: psutil.Process
) -> None:
    found = cells[name]
    ratios = [mine.rate / plain.rate for mine, plain in zip(found, cells[PLAIN], strict=True)]
    rate, p50, p99, cpu = (statistics.median(column) for column in zip(*found, strict=True))
    best = max(cell.rate for cell in found) / max(cell.rate for cell in cells[PLAIN])
    print(
        f"{callers:>7} {name:>10} {rate:>7.0f} {p50:>7.2f} {p99:>7.2f} {cpu:>10.3f} "
        f"{_memory(process) / 1e6:>7.0f} {statistics.median(ratios):>6.2f} {best:>9.2f}"
    )


def _wait_ms(folder: Path) -> float:
    """Median time of one fsync now; a lone caller pays for one of them."""
    waits = []
    with (folder / "wait").open("wb", buffering=0) as file:
        for _ in range(100):
            start = time.perf_counter()
            file.write(b"x" * 4096)
            os.fsync(file.fileno())
            waits.append((time.perf_counter() - start) * 1e3)
    return statistics.median(waits)


@contextlib.contextmanager
def _server(folder: Path, name: str, ledger: str) -> Iterator[tuple[str, psutil.Process]]:
    folder.mkdir()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    text = f'[project]\nname = "bench"\ntask = "pair_task:task"\n[serve]\nport = {port}\n'
    text += f"max_batch = {MAX_BATCH}\n[train]\ndevice = 'cpu'\n"
    if ledger:
        text += f'[storage]\nledger = "{ledger}"\n'
    (folder / "flywheel.toml").write_text(text)
    command = [sys.executable, str(Path(__file__)), "--serve", str(folder), name]
    if name in PEERS:
        script = Path(__file__).with_name(PEERS[name][0])
        command = [PEER_PYTHON, str(script), str(port), str(MAX_BATCH)]
    process = subprocess.Popen(command, cwd=folder)
    try:
        url = f"http://127.0.0.1:{port}"
        _wait_for(url + (PEERS[name][1] if name in PEERS else "/health"), process)
        yield url, psutil.Process(process.pid)
    finally:
        with contextlib.suppress(psutil.NoSuchProcess):
            for one in _family(psutil.Process(process.pid)):
                one.terminate()
        process.wait()


def _family(process: psutil.Process) -> list[psutil.Process]:
    return [process, *process.children(recursive=True)]


def _memory(process: psutil.Process) -> float:
    return sum(one.memory_info().rss for one in _family(process))


def _cpu(process: psutil.Process) -> float:
    return sum(sum(one.cpu_times()[:2]) for one in _family(process))


def _wait_for(url: str, process: subprocess.Popen[bytes]) -> None:
    while process.poll() is None:
        with contextlib.suppress(httpx.TransportError):
            if httpx.get(url, timeout=5).is_success:
                return
        time.sleep(0.1)
    raise SystemExit("the server ended by itself; its message is above")


def _measured(name: str, server: tuple[str, psutil.Process], callers: int, seconds: float) -> Cell:
    """One round against one server, from a client process of its own."""
    url, process = server
    command = [sys.executable, str(Path(__file__)), "--send", url, str(callers), str(seconds), name]
    before = _cpu(process)
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, cwd=ROOT)
    number, elapsed, p50, p99 = json.loads(done.stdout)
    if name not in PEERS:
        _wait_for_rest(process)
    return Cell(number / elapsed, p50, p99, (_cpu(process) - before) / number * 1e3)


def _wait_for_rest(process: psutil.Process) -> None:
    """Wait until the server does nothing, as when it takes its log in; its CPU seconds count."""
    before = -1.0
    while (now := _cpu(process)) - before > 0.05:
        before = now
        time.sleep(0.5)


class _Caller(asyncio.Protocol):
    """One connection that asks again as soon as it has its answer; httpx would be slower than a server."""

    def __init__(self, end: float, waits: list[float], name: str) -> None:
        self._end, self._waits, self._name = end, waits, name
        self.done = asyncio.get_running_loop().create_future()
        self._data = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport
        self._ask()

    def _ask(self) -> None:
        value = struct.unpack("<f", os.urandom(3) + b"\x3f")[0]  # a new sample each
        if self._name in PEERS:
            pair = [value, 0.9]
            asked = {"pair": [pair] if self._name == "BentoML" else pair}
            body, kind = json.dumps(asked).encode(), b"application/json"
        else:
            body, kind = struct.pack("<2f", value, 0.9), b"application/x-pair"
        self._start = time.perf_counter()
        self._transport.write(  # type: ignore[attr-defined]
            b"POST /predict HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: %b\r\n"
            b"Content-Length: %d\r\n\r\n%b" % (kind, len(body), body)
        )

    def data_received(self, data: bytes) -> None:
        self._data += data
        head, _, body = self._data.partition(b"\r\n\r\n")
        length = int(head.lower().partition(b"content-length: ")[2].split(b"\r\n")[0] or 1 << 30)
        if len(body) < length:
            return
        assert self._data.startswith(b"HTTP/1.1 200"), self._data
        self._data = b""
        now = time.perf_counter()
        self._waits.append(now - self._start)
        if now < self._end:
            self._ask()
        else:
            self._transport.close()
            self.done.set_result(None)


async def _send(url: str, callers: int, seconds: float, name: str) -> None:
    """The client process: as many connections as callers."""
    loop, waits = asyncio.get_running_loop(), list[float]()
    start = time.perf_counter()
    address = httpx.URL(url)
    made = [
        await loop.create_connection(
            lambda: _Caller(start + seconds, waits, name),
            address.host,
            address.port or 80,
        )
        for _ in range(callers)
    ]
    await asyncio.gather(*(caller.done for _, caller in made))
    elapsed = time.perf_counter() - start
    quantiles = statistics.quantiles(waits, n=100)
    print(json.dumps([len(waits), elapsed, quantiles[49] * 1e3, quantiles[98] * 1e3]))


class _NoLog:
    """A log that keeps nothing."""

    def __init__(self, *_: object) -> None: ...
    def write(self, _: object) -> None: ...
    def flush(self) -> None: ...
    def close(self) -> None: ...


def _serve(folder: Path, mode: str) -> None:
    """The server process, with or without the log."""
    import torch
    import uvicorn
    from sqlalchemy import insert

    from flywheel.blobs import Blobs
    from flywheel.ledger import Ledger
    from flywheel.ledger.serving_tables import checkpoints, releases
    from flywheel.model import weights_of
    from flywheel.project import load_project
    from flywheel.serve import host
    from flywheel.serve.app import create_app
    from flywheel.task import load_task

    torch.set_num_threads(1)
    project = load_project(folder)
    task = load_task(project.project.task, TOYS)
    ledger, blobs = Ledger.open(project.ledger_url), Blobs.open(project.blobs_url)
    digest = blobs.put(weights_of(task.network()))
    with ledger.begin() as connection:
        connection.execute(insert(checkpoints), {"digest": digest, "record": {}, "created_at": NOW})
        row = {"number": 1, "checkpoint_digest": digest, "reason": "benchmark", "created_at": NOW}
        connection.execute(insert(releases), row)
    if mode == PLAIN:
        host.PredictionLog = _NoLog
    app = create_app(project, task, ledger, blobs)
    uvicorn.run(app, port=project.serve.port, access_log=False, log_level="warning")


if __name__ == "__main__":
    if sys.argv[1:2] == ["--serve"]:
        _serve(Path(sys.argv[2]), sys.argv[3])
    elif sys.argv[1:2] == ["--send"]:
        uvloop = import_module("uvloop")  # comes with uvicorn's extras
        uvloop.run(_send(sys.argv[2], int(sys.argv[3]), float(sys.argv[4]), sys.argv[5]))
    else:
        main()
