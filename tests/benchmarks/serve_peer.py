"""The network of tests/toys/pair_task.py behind LitServe or BentoML: one worker, batches as large, no log.

Run it by `bench_serve.py`, in a Python that has them: `serve_peer.py NAME PORT MAX_BATCH`.
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


def serve_litserve(port: int, max_batch: int) -> None:
    """Answer {"pair": [value, confidence]}."""
    litserve = import_module("litserve")  # of that Python, not of ours

    class Pairs(litserve.LitAPI):
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

    server = litserve.LitServer(Pairs(max_batch_size=max_batch), accelerator="cpu")
    server.run(host="127.0.0.1", port=port, log_level="warning", generate_client_file=False)


def serve_bentoml(port: int, max_batch: int) -> None:
    """Become its command, which answers {"pair": [[value, confidence]]}."""
    os.environ |= {"BENTOML_DO_NOT_TRACK": "true", "MAX_BATCH": str(max_batch)}
    program = str(Path(sys.executable).with_name("bentoml"))
    place = ["--host", "127.0.0.1", "--port", str(port)]
    os.chdir(Path(__file__).parent)
    os.execv(program, [program, "serve", "serve_bento:Pairs", *place])


if __name__ == "__main__":
    {"LitServe": serve_litserve, "BentoML": serve_bentoml}[sys.argv[1]](*map(int, sys.argv[2:]))
