"""Import of a log of 1,000,000 predictions: seconds, rows a second and memory.

Run: python tests/benchmarks/bench_import.py [--small]

Beside it what a user would write: pandas in chunks, and SQLAlchemy's bulk insert into one table with a
unique id. That one checks no value, hashes no payload, knows no group and cannot be repeated.
--small: 20,000 rows, a run of seconds.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pandas as pd
import pyarrow as pa
from pyarrow import parquet
from rich.console import Console
from rich.table import Table
from sqlalchemy import Column, Float, MetaData, String, create_engine, insert
from sqlalchemy import Table as SqlTable

from flywheel.intake import Placing, Reading, bring, open_log
from flywheel.testing import open_memory, toy_task

START = datetime(2026, 1, 1, tzinfo=UTC)
_CHUNK = 50_000


def rows(number: int) -> Iterator[dict[str, object]]:
    """Rows of a support desk's log: short texts, each its own."""
    for place in range(number):
        yield {
            "id": f"{place * 2654435761 % 2**64:032x}",
            "time": (START + timedelta(seconds=place)).isoformat(),
            "input": f"text number {place} that was written to a support desk",
            "answer": "left" if place % 2 else "right",
            "confidence": place % 100 / 100,
            "model": "house-1",
        }


def write(path: Path, number: int) -> None:
    """Write a log as JSON Lines or Parquet."""
    if path.suffix == ".jsonl":
        with path.open("w") as file:
            file.writelines(json.dumps(row) + "\n" for row in rows(number))
        return
    every, writer = rows(number), None
    while piece := [row for row, _ in zip(every, range(_CHUNK), strict=False)]:
        table = pa.Table.from_pylist(piece)
        writer = writer or parquet.ParquetWriter(path, table.schema)
        writer.write_table(table)
    assert writer is not None
    writer.close()


def import_log(path: Path, folder: Path) -> int:
    """Bring the log in as `flywheel import` does; how many rows were new."""
    with open_memory(toy_task(), folder) as memory:
        loop, reading = memory.loop, Reading(now=datetime.now(UTC))
        placing, rejects = Placing(project=loop.project), folder / "rejects"
        log = open_log(str(path))
        done = bring(loop.ledger, loop.blobs, log, "predictions", reading, placing, rejects=rejects)
        return done.num_new


def insert_frames(path: Path, folder: Path) -> int:
    """Insert the log with pandas and SQLAlchemy."""
    engine, metadata = create_engine(f"sqlite:///{folder}/peer.db"), MetaData()
    names = ("time", "input", "answer", "model")
    columns = [Column(name, String) for name in names]
    table = SqlTable(
        "log", metadata, Column("id", String, unique=True), Column("confidence", Float), *columns
    )
    metadata.create_all(engine)
    if path.suffix == ".jsonl":
        frames = pd.read_json(path, lines=True, chunksize=_CHUNK, convert_dates=False)
    else:
        batches = parquet.ParquetFile(path).iter_batches(batch_size=_CHUNK)
        frames = (batch.to_pandas() for batch in batches)
    number = 0
    for frame in frames:
        with engine.begin() as connection:
            connection.execute(insert(table), frame.to_dict("records"))
        number += len(frame)
    return number


def measure(what: str, path: Path, folder: Path) -> tuple[float, float]:
    """Seconds and peak MB above those of the imports, in a process of its own."""
    command = [sys.executable, __file__, "--one", what, str(path), str(folder)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    seconds, peak = done.stdout.split()
    return float(seconds), float(peak)


def one(what: str, path: Path, folder: Path) -> None:
    """Do it and print what it took."""
    folder.mkdir()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    begun = time.perf_counter()
    number = {"import": import_log, "peer": insert_frames}[what](path, folder)
    seconds = time.perf_counter() - begun
    assert number > 0
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    Console().print(seconds, peak / 1024)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description="import of a log of a million predictions")
    parser.add_argument("--small", action="store_true", help="20,000, for a look")
    parser.add_argument("--one", nargs=3, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.one:
        what, path, folder = arguments.one
        one(what, Path(path), Path(folder))
        return
    number = 20_000 if arguments.small else 1_000_000
    table = Table(title=f"{number:,} rows", box=None, title_justify="left")
    for name in ("format", "import, s", "rows/s", "MB more", "pandas, s", "MB more", "ratio"):
        table.add_column(name, justify="right")
    with tempfile.TemporaryDirectory() as place:
        for suffix in ("jsonl", "parquet"):
            path = Path(place) / f"log.{suffix}"
            write(path, number)
            ours = measure("import", path, Path(place) / f"ours {suffix}")
            peer = measure("peer", path, Path(place) / f"peer {suffix}")
            cells = (ours[0], number / ours[0], ours[1], *peer, ours[0] / peer[0])
            table.add_row(
                suffix,
                *(f"{cell:,.3g}" for cell in cells[:1]),
                f"{cells[1]:,.0f}",
                *(f"{cell:,.1f}" for cell in cells[2:]),
            )
    Console(width=120).print(table)


if __name__ == "__main__":
    main()
