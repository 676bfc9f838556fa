"""The service that `serve_peer.py` starts for BentoML; its import must define it."""

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

    @bentoml.api(batchable=True, max_batch_size=int(os.environ["MAX_BATCH"]), max_latency_ms=60_000)
    def predict(self, pair: list[list[float]]) -> list[dict[str, float]]:
        """Value and confidence of each pair."""
        with torch.inference_mode():
            rows = self.network(torch.tensor(pair)).tolist()
        return [{"answer": value, "confidence": confidence} for value, confidence in rows]
