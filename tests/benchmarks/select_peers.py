"""Other libraries choose from embeddings in a file: bench_select.py runs it with their python.

It needs none of ours, and names none of theirs in an import: they are no dependencies.
"""

from __future__ import annotations

import importlib
import json
import resource
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

_WIDTH = 128
_CPU_SECONDS, _BYTES = 300, 16 * 2**30


def _apricot(embeddings: Any, size: int) -> str:
    library = importlib.import_module("apricot")
    if (4 * len(embeddings)) * len(embeddings) > _BYTES:
        raise SystemExit(f"holds all pairs: {8 * len(embeddings) ** 2 / 2**30:,.0f} GiB")
    library.FacilityLocationSelection(size, metric="euclidean").fit(embeddings)
    return "facility location"


def _skactiveml(embeddings: Any, size: int) -> str:
    library = importlib.import_module("skactiveml.pool")
    unlabeled = np.full(len(embeddings), np.nan)
    library.CoreSet(random_state=0).query(X=embeddings, y=unlabeled, batch_size=size)
    return "core-set"


def _modal(embeddings: Any, size: int) -> str:
    batch = importlib.import_module("modAL.batch")
    models = importlib.import_module("modAL.models")
    forest = importlib.import_module("sklearn.linear_model").LogisticRegression()
    learner = models.ActiveLearner(
        estimator=forest,
        query_strategy=batch.uncertainty_batch_sampling,
        X_training=embeddings[:100],
        y_training=np.arange(100) % 10,
    )
    learner.query(embeddings, n_instances=size)
    return "ranked batch"


_WAYS: dict[str, Callable[[Any, int], str]] = {
    "apricot": _apricot,
    "skactiveml": _skactiveml,
    "modAL": _modal,
}


def main() -> None:
    """Choose once and print what it took."""
    name, folder, size = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3])
    resource.setrlimit(resource.RLIMIT_CPU, (_CPU_SECONDS, _CPU_SECONDS))
    resource.setrlimit(resource.RLIMIT_AS, (_BYTES, _BYTES))
    embeddings = np.fromfile(folder / "embeddings", np.float32).reshape(-1, _WIDTH)
    before, start = _peak_mb(), time.process_time()
    what = _WAYS[name](embeddings, size)
    seconds, peak = time.process_time() - start, _peak_mb() - before
    sys.stdout.write(json.dumps({"what": what, "seconds": seconds, "peak": peak}))


def _peak_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1_024


if __name__ == "__main__":
    main()
