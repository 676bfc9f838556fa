"""Loads the model, then answers one JSON line with another until its input ends."""

import argparse
import json
import math
import sys
from pathlib import Path

parser = argparse.ArgumentParser()
parser.add_argument("--model", type=Path)
words = json.loads((parser.parse_args().model / "words.json").read_text(encoding="utf-8"))
sums = {name: sum(counts.values()) for name, counts in words.items()}

for line in sys.stdin:
    if not line.strip():  # the end of a batch
        continue
    asked = json.loads(line)
    try:
        text = Path(asked["file"]).read_text(encoding="utf-8").lower().split()
    except UnicodeDecodeError:
        text = []
    if not text or any("\0" in word for word in text):
        print(json.dumps({"id": asked["id"], "error": "no text. Send UTF-8"}), flush=True)
        continue
    logs = {
        name: sum(math.log((counts.get(word, 0) + 1) / (sums[name] + 1000)) for word in text)
        for name, counts in words.items()
    }
    best = max(logs, key=lambda name: (logs[name], name))
    chances = {name: math.exp(log - logs[best]) for name, log in logs.items()}
    whole = sum(chances.values())
    row = {
        "answer": best,
        "confidence": 1 / whole,
        "embedding": [logs[name] for name in sorted(logs)],
    }
    print(json.dumps({"id": asked["id"], **row}), flush=True)
