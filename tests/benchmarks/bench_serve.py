"""What the durable log costs: predictions a second with it and without, over real HTTP.

Run it from the repository: `python -m tests.benchmarks.bench_serve [seconds for each cell]`.
Server and client are processes of their own; rounds alternate between the two servers, so
that a busy machine slows both alike. The ratios carry over to other machines, the rest not.
"""

# It prints for people, and its client processes must not load torch.
# ruff: noqa: T201, PLC0415

from __future__ import annotations

import contextlib
import os
import socket
import statistics
import struct
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import httpx
from sqlalchemy import insert

ROOT = Path(__file__).parents[2]
TOYS = ROOT / "tests" / "toys"
CONCURRENCY = (1, 16)
ROUNDS = 5
NOW = datetime(2026, 1, 1, tzinfo=UTC)


def main() -> None:
    """Measure and print the table."""
    seconds = float(sys.argv[1]) if len(sys.argv) > 1 else 3.0
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as stack:
        urls = {
            durable: stack.enter_context(_server(Path(folder) / durable, durable))
            for durable in ("durable", "nothing")
        }
        print(f"{'callers':>8} {'no log/s':>9} {'durable/s':>10} {'ratio':>6}   (of each round)")
        for callers in CONCURRENCY:
            rates: dict[str, list[float]] = {name: [] for name in urls}
            for _ in range(ROUNDS):
                for name, url in urls.items():
                    rates[name].append(_measured(url, callers, seconds / ROUNDS))
            _print_row(callers, rates["nothing"], rates["durable"])
            print(f"{'':>8} one wait for this disk: {_wait_ms(Path(folder)):.1f} ms")


def _print_row(callers: int, plain: list[float], durable: list[float]) -> None:
    ratios = [with_log / without for with_log, without in zip(durable, plain, strict=True)]
    print(
        f"{callers:>8} {statistics.median(plain):>9.0f} {statistics.median(durable):>10.0f} "
        f"{statistics.median(ratios):>6.2f}   ({min(ratios):.2f} to {max(ratios):.2f})"
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
def _server(folder: Path, mode: str) -> Iterator[str]:
    folder.mkdir()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    text = f'[project]\nname = "bench"\ntask = "pair_task:task"\n[serve]\nport = {port}\n'
    (folder / "flywheel.toml").write_text(text + '[train]\ndevice = "cpu"\n')
    process = subprocess.Popen(_again("--serve", str(folder), mode), cwd=ROOT)
    try:
        url = f"http://127.0.0.1:{port}"
        _wait_for(url, process)
        yield url
    finally:
        process.terminate()
        process.wait()


def _again(*arguments: str) -> list[str]:
    return [sys.executable, str(Path(__file__)), *arguments]


def _wait_for(url: str, process: subprocess.Popen[bytes]) -> None:
    while process.poll() is None:
        with contextlib.suppress(httpx.TransportError):
            httpx.get(f"{url}/health")
            return
        time.sleep(0.1)
    raise SystemExit("the server ended by itself; its message is above")


def _measured(url: str, callers: int, seconds: float) -> float:
    """Predictions a second, counted in a client process of its own."""
    command = _again("--send", url, str(callers), str(seconds))
    done = subprocess.run(command, check=True, capture_output=True, text=True, cwd=ROOT)
    return float(done.stdout)


def _send(url: str, callers: int, seconds: float) -> None:
    """The client process: as many threads as callers, each with its own connection."""
    counts = [0] * callers
    end = time.perf_counter() + seconds

    def call(place: int) -> None:
        headers = {"Content-Type": "application/x-pair"}
        with httpx.Client(base_url=url, headers=headers) as client:
            while time.perf_counter() < end:
                payload = os.urandom(3) + b"\x3f" + struct.pack("<f", 0.9)  # a new sample each
                client.post("/predict", content=payload).raise_for_status()
                counts[place] += 1

    threads = [threading.Thread(target=call, args=(place,)) for place in range(callers)]
    start = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    print(sum(counts) / (time.perf_counter() - start))


def _serve(folder: Path, mode: str) -> None:
    """The server process, with or without the log."""
    import torch
    import uvicorn

    from flywheel.blobs import Blobs
    from flywheel.ledger import Ledger
    from flywheel.ledger.tables import checkpoints, releases
    from flywheel.model import weights_of
    from flywheel.project import load_project
    from flywheel.serve import create_app
    from flywheel.task import load_task

    torch.set_num_threads(1)
    project = load_project(folder)
    task = load_task(project.project.task, TOYS)
    ledger, blobs = Ledger.open(project.ledger_url), Blobs.open(project.blobs_url)
    digest = blobs.put(weights_of(task.model()))
    with ledger.begin() as connection:
        connection.execute(insert(checkpoints), {"digest": digest, "record": {}, "created_at": NOW})
        row = {"number": 1, "checkpoint_digest": digest, "reason": "benchmark", "created_at": NOW}
        connection.execute(insert(releases), row)
    app = create_app(project, task, ledger, blobs, durable=mode == "durable")
    uvicorn.run(app, port=project.serve.port, access_log=False, log_level="warning")


if __name__ == "__main__":
    if sys.argv[1:2] == ["--serve"]:
        _serve(Path(sys.argv[2]), sys.argv[3])
    elif sys.argv[1:2] == ["--send"]:
        _send(sys.argv[2], int(sys.argv[3]), float(sys.argv[4]))
    else:
        main()
