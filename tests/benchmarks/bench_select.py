"""Choosing 1,000 of many samples with embeddings of 128 numbers: seconds, memory, and how good.

Run: python tests/benchmarks/bench_select.py [--sizes 10000 100000 1000000] [--peers PYTHON]

Ours is the whole select stage on a ledger that holds so many new predictions, a part of them suspect, and
1,000 nights of 25 labels: it reads candidates, chooses by a strategy, and stores the batch. Every run is
a process of its own on one thread; memory is its peak beyond what it has before.

"of the full search" compares with the same strategy run over all samples at once, or over an even 100,000
of more: for coverage by what is covered of production that neither has seen beyond what is known, for
the others by the mean squared distance of it to its nearest choice, weighted by doubt for diverse.

apricot-select, scikit-activeml and modAL-python choose from the same embeddings in memory, within 300
CPU seconds and 16 GB. They are no dependencies of ours; to have their rows, install them elsewhere:
  python -m venv ../peers && ../peers/bin/pip install apricot-select scikit-activeml modAL-python
  python tests/benchmarks/bench_select.py --peers ../peers/bin/python
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table
from scipy.spatial.distance import cdist
from scipy.stats import rankdata
from sqlalchemy import Connection, insert

from flywheel.ledger import Ledger
from flywheel.ledger.tables import (
    batches,
    choices,
    failures,
    labels,
    predictions,
    samples,
    trained,
    watermarks,
)
from flywheel.records import Array, Share
from flywheel.select import find_strategy, select_batch
from flywheel.select import strategies as ours
from flywheel.settings.labeling import LabelingSettings

_CHOSEN, _WIDTH, _CLUSTERS = 1_000, 128, 2_000
_NIGHTS, _A_NIGHT, _KNOWN, _RECENT = 1_000, 25, 1_000, 4_000
_MOST_SEARCHED, _TARGETS = 100_000, 4_000
_SUSPECT = 0.7
_PIECE = 20_000
_NOW = datetime(2026, 1, 1, tzinfo=UTC)
_MIX, _IDS = 0x9E3779B97F4A7C15, 2**64
"""row number -> id, spread over all ids as hashes are"""
_STRATEGIES = ("diverse", "coverage", "lcmd")
_PEERS = ("apricot", "skactiveml", "modAL")
_PEER_SCRIPT = Path(__file__).parent / "select_peers.py"


@dataclass(frozen=True, eq=False)
class World:
    """Production in clusters, few of which hold most, and some of which are hard."""

    centres: Array
    share: Array
    hard: Array

    @classmethod
    def of(cls, rng: np.random.Generator) -> World:
        """A world at random."""
        share = 1 / np.arange(1, _CLUSTERS + 1)
        centres = rng.normal(size=(_CLUSTERS, _WIDTH)).astype(np.float32)
        return cls(centres, share / share.sum(), rng.random(_CLUSTERS))

    def draw(self, number: int, rng: np.random.Generator) -> tuple[Array, Array]:
        """(N, D) embeddings and (N,) confidences."""
        cluster = rng.choice(_CLUSTERS, number, p=self.share)
        noise = rng.normal(size=(number, _WIDTH)).astype(np.float32)
        confidence = np.clip(1 - rng.exponential(0.3 * self.hard[cluster]), 0, 1)
        return self.centres[cluster] + 0.5 * noise, confidence


@dataclass(frozen=True, eq=False)
class Made:
    """What is in the ledger: N new samples, the newest labeled ones, and fresh production."""

    embeddings: Array
    confidence: Array
    known: Array
    fresh: Array
    doubt: Array
    """(R,) of the fresh ones"""


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description="choosing 1,000 of many")
    parser.add_argument("--sizes", type=int, nargs="*", default=[10_000, 100_000, 1_000_000])
    parser.add_argument("--peers", help="python that has the other libraries")
    parser.add_argument("--run", nargs=2, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.run:
        sys.stdout.write(json.dumps(_choose(Path(arguments.run[0]), arguments.run[1])))
        return
    console = Console()
    if arguments.peers is None:
        console.print("without other libraries: the head of this file says how to have them")
    still = list(_PEERS) if arguments.peers else []
    for number in arguments.sizes:
        with tempfile.TemporaryDirectory() as name, console.status(f"1,000 of {number:,} …"):
            made = _write(Path(name), number)
            table = _table(number)
            for strategy in _STRATEGIES:
                _add_ours(table, made, Path(name), strategy)
            for peer in list(still):
                if not _add_peer(table, arguments.peers, Path(name), peer):
                    still.remove(peer)  # it will not do with more
        console.print(table)


def _table(number: int) -> Table:
    table = Table(title=f"1,000 of {number:,} x {_WIDTH}")
    table.add_column("by")
    for heading in ("CPU s", "of it the strategy", "peak MB", "of the full search"):
        table.add_column(heading, justify="right")
    return table


def _add_ours(table: Table, made: Made, folder: Path, name: str) -> None:
    found = _in_a_process([sys.executable, __file__, "--run", str(folder), name])
    table.add_row(
        f"ours, {name}",
        f"{found['seconds']:.1f}",
        f"{found['strategy']:.2f}",
        f"{found['peak']:.0f}",
        f"{_quality(name, made, found['rows']):.3f}",
    )


def _add_peer(table: Table, python: str, folder: Path, name: str) -> bool:
    """Whether it managed."""
    try:
        found = _in_a_process([python, str(_PEER_SCRIPT), name, str(folder), str(_CHOSEN)])
    except subprocess.CalledProcessError as error:
        died = "over 300 s" if error.returncode < 0 else str(error.stderr).strip().splitlines()[-1]
        table.add_row(name, died, "", "", "")
        return False
    seconds, peak = f"{found['seconds']:.1f}", f"{found['peak']:.0f}"
    table.add_row(f"{name}, {found['what']}", seconds, seconds, peak, "")
    return True


def _write(folder: Path, number: int) -> Made:
    """A ledger with new predictions and earlier nights, and the embeddings of the new in a file."""
    rng = np.random.default_rng(number)
    world = World.of(rng)
    known, _ = world.draw(_NIGHTS * _A_NIGHT, rng)
    begun, confidences = _NIGHTS * _A_NIGHT, []
    ledger = Ledger.open(_url(folder))
    with ledger.begin() as connection, (folder / "embeddings").open("wb") as file:
        _write_nights(connection, known)
        marks = {"selected": begun, "predictions collected": begun + number}
        connection.execute(
            insert(watermarks), [{"name": name, "seq": seq} for name, seq in marks.items()]
        )
        for start in range(0, number, _PIECE):
            rows = np.arange(start, min(start + _PIECE, number))
            part, confidence = world.draw(len(rows), rng)
            _write_rows(connection, rows, confidence, part)
            confidences.append(confidence)
            file.write(part.tobytes())
    ledger.close()
    fresh, sure = world.draw(_RECENT, rng)
    return Made(
        embeddings=np.memmap(folder / "embeddings", np.float32, "r").reshape(-1, _WIDTH),
        confidence=np.concatenate(confidences),
        known=known[-_KNOWN:],
        fresh=fresh,
        doubt=1 - sure,
    )


def _write_nights(connection: Connection, embeddings: Array) -> None:
    """Nights of 25 labels, half of them drawn by chance; all but the last week's train."""
    for night in range(_NIGHTS):
        rows = -1 - np.arange(night * _A_NIGHT, (night + 1) * _A_NIGHT)
        _write_rows(connection, rows, np.ones(_A_NIGHT), embeddings[-1 - rows])
        batch = {
            "id": f"{night:064x}",
            "night": night,
            "population": 1_000,
            "mean_confidence": 0.9,
            "least_probability": 0.01,
            "created_at": _NOW + timedelta(days=night),
        }
        connection.execute(insert(batches), batch)
        drawn = np.arange(_A_NIGHT) % 2 == 0
        connection.execute(
            insert(choices),
            [
                {
                    "sample_id": _key(row),
                    "batch_id": batch["id"],
                    "prediction_id": _key(row)[32:],
                    "share": (Share.PROBABILITY if by_chance else Share.TARGETED).value,
                    "reason": "made",
                    "priority": 0.5,
                    "inclusion_probability": 0.01 if by_chance else None,
                }
                for row, by_chance in zip(rows.tolist(), drawn, strict=True)
            ],
        )
        label = {"answer": "cat", "reliability": 1.0, "num_annotations": 1, "source": "annotators"}
        connection.execute(
            insert(labels),
            [label | {"sample_id": _key(row), "created_at": _NOW} for row in rows.tolist()],
        )
        if night < _NIGHTS - 7:
            connection.execute(
                insert(trained), [{"group": _key(row), "night": night} for row in rows.tolist()]
            )


def _write_rows(connection: Connection, rows: Array, confidence: Array, embeddings: Array) -> None:
    keys = [_key(row) for row in rows.tolist()]
    connection.execute(
        insert(samples),
        [
            {
                "id": key,
                "media_type": "image/png",
                "metadata": {},
                "group": key,
                "split": "train",
                "created_at": _NOW,
            }
            for key in keys
        ],
    )
    connection.execute(
        insert(predictions),
        [
            {
                "id": key[32:],
                "sample_id": key,
                "answer": "cat",
                "confidence": float(sure),
                "embedding": row.tobytes(),
                "latency_ms": 1.0,
                "model_digest": "d" * 64,
                "created_at": _NOW,
            }
            for key, sure, row in zip(keys, confidence, embeddings, strict=True)
        ],
    )
    suspect = [
        {
            "sample_id": key,
            "prediction_id": key[32:],
            "signals": {"low_confidence": (_SUSPECT - sure) / _SUSPECT},
            "strength": (_SUSPECT - sure) / _SUSPECT,
            "state": "seen",
            "created_at": _NOW,
        }
        for key, sure in zip(keys, confidence.tolist(), strict=True)
        if sure < _SUSPECT
    ]
    if suspect:
        connection.execute(insert(failures), suspect)


def _key(row: int) -> str:
    mixed = (row + 2**32) * _MIX % _IDS
    return f"{mixed:016x}{'0' * 32}{mixed:016x}"


def _row(key: str) -> int:
    return int(key[:16], 16) * pow(_MIX, -1, _IDS) % _IDS - 2**32


def _url(folder: Path) -> str:
    return f"sqlite:///{folder}/ledger.db"


def _choose(folder: Path, name: str) -> dict[str, Any]:
    """The select stage with a strategy: what it chose, seconds, of them the strategy's, and memory."""
    with tempfile.TemporaryDirectory(dir=folder) as copy:  # what is chosen is stored
        shutil.copy(folder / "ledger.db", copy)
        return _select(Path(copy), name)


def _select(folder: Path, name: str) -> dict[str, Any]:
    ledger = Ledger.open(_url(folder), creates=False)
    inside = 0.0

    def timed(pool: ours.Pool, size: int, rng: np.random.Generator) -> Any:
        nonlocal inside
        start = time.process_time()
        rows = find_strategy(name, folder)(pool, size, rng)
        inside = time.process_time() - start
        return rows

    before = _peak_mb(anew=True)
    start = time.process_time()
    batch = select_batch(
        ledger,
        LabelingSettings(samples_per_night=_CHOSEN, probability_share=0.001),
        seed=0,
        night=100_000 + _STRATEGIES.index(name),
        now=_NOW + timedelta(days=10_000),
        strategy=timed,
    )
    return {
        "seconds": time.process_time() - start,
        "strategy": inside,
        "peak": _peak_mb() - before,
        "rows": [_row(one.sample_id) for one in batch.choices if one.share is Share.TARGETED],
    }


def _peak_mb(*, anew: bool = False) -> float:
    """Largest resident memory of this process so far, counted anew from now on if asked for."""
    if anew:
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return int(status.split("VmHWM:")[1].split()[0]) / 1_024


def _in_a_process(command: list[str]) -> dict[str, Any]:
    threads = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    done = subprocess.run(
        command, env=os.environ | threads, capture_output=True, text=True, check=True
    )
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def _quality(name: str, made: Made, rows: Sequence[int]) -> float:
    """How good a choice is beside the same strategy's over all samples at once."""
    rng = np.random.default_rng(0)
    number = len(made.embeddings)
    searched = np.sort(rng.permutation(number)[:_MOST_SEARCHED])
    centre = made.embeddings[searched].mean(axis=0)
    doubt = 1 - made.confidence[searched]
    accused = made.confidence[searched] < _SUSPECT
    strength = np.zeros(len(searched))
    strength[accused] = (rankdata(doubt[accused]) - 0.5) / accused.sum()
    recent = rng.permutation(len(searched))[:_TARGETS]
    places = ours.unit(made.embeddings[searched] - centre)
    pool = ours.Pool(
        embeddings=places,
        strength=strength,
        doubt=doubt,
        known=ours.unit(made.known - centre),
        recent=places[recent],
        weight=doubt[recent],
    )
    full = places[list(ours.STRATEGIES[name](pool, _CHOSEN, rng))]
    mine = ours.unit(made.embeddings[list(rows)] - centre)
    fresh = ours.unit(made.fresh - centre)
    if name == "coverage":
        return _covered(fresh, made.doubt, pool.known, mine) / _covered(
            fresh, made.doubt, pool.known, full
        )
    weight = made.doubt if name == "diverse" else np.ones(len(fresh))
    return float((weight @ _nearest(fresh, full)) / (weight @ _nearest(fresh, mine)))


def _covered(fresh: Array, weight: Array, known: Array, chosen: Array) -> float:
    """What the choices cover beyond the known, by the kernel of the strategy."""
    scale = 2 * np.median(np.sort(cdist(known, known, "sqeuclidean"), axis=1)[:, 1])
    before = np.exp(-_nearest(fresh, known) / scale)
    after = np.exp(-_nearest(fresh, np.concatenate([known, chosen])) / scale)
    return float(weight @ (after - before))


def _nearest(rows: Array, centres: Array) -> Array:
    found: Array = cdist(rows, centres, "sqeuclidean").min(axis=1)
    return found


if __name__ == "__main__":
    main()
