"""The network of tests/toys/pair_task.py behind BentoML: one worker, batches as large, no log.

Run it by `bench_serve.py`, in a Python that has bentoml: `serve_bento.py PORT MAX_BATCH` becomes its
command, which imports this file for the service.
"""

from __future__ import annotations

import os
import sys
from importlib import import_module
from pathlib import Path

import torch

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests" / "toys")]

import pair_task  # noqa: E402  found by the path above

bentoml = import_module("bentoml")  # of that Python, not of ours


@bentoml.service(workers=1, logging={"access": {"enabled": False}})
class Pairs:
    """The network, in batches."""

    def __init__(self) -> None:
        torch.set_num_threads(1)
        self.network = pair_task.Network().eval()

    @bentoml.api(
        batchable=True, max_batch_size=int(os.environ.get("MAX_BATCH", "64")), max_latency_ms=60_000
    )
    def predict(self, pair: list[list[float]]) -> list[dict[str, float]]:
        """Value and confidence of each pair."""
        with torch.inference_mode():
            rows = self.network(torch.tensor(pair)).tolist()
        return [{"answer": value, "confidence": confidence} for value, confidence in rows]


if __name__ == "__main__":
    os.environ |= {"BENTOML_DO_NOT_TRACK": "true", "MAX_BATCH": sys.argv[2]}
    command = [str(Path(sys.executable).with_name("bentoml")), "serve", "serve_bento:Pairs"]
    os.chdir(Path(__file__).parent)
    os.execv(command[0], [*command, "--host", "127.0.0.1", "--port", sys.argv[1]])
