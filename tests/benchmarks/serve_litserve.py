"""The network of tests/toys/pair_task.py behind LitServe: one worker, batches as large, no log.

Run it by `bench_serve.py`, in a Python that has litserve: `serve_litserve.py PORT MAX_BATCH`.
"""

from __future__ import annotations

import sys
from importlib import import_module
from pathlib import Path

import torch

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests" / "toys")]

import pair_task  # noqa: E402  found by the path above

litserve = import_module("litserve")  # of that Python, not of ours


class Pairs(litserve.LitAPI):
    """Answers {"pair": [value, confidence]}."""

    def setup(self, _device):
        torch.set_num_threads(1)
        self.network = pair_task.Network().eval()

    def decode_request(self, request):
        return torch.tensor(request["pair"])

    def predict(self, inputs):
        with torch.inference_mode():
            return self.network(inputs)

    def unbatch(self, output):
        return output.tolist()

    def encode_response(self, output):
        return {"answer": output[0], "confidence": output[1]}


if __name__ == "__main__":
    server = litserve.LitServer(Pairs(max_batch_size=int(sys.argv[2])), accelerator="cpu")
    server.run(
        host="127.0.0.1", port=int(sys.argv[1]), log_level="warning", generate_client_file=False
    )
